"""Owners counted in numba: a stretch of all tasks at a time, so that sums and counts stay in the L1 cache."""

from typing import Any

import numpy as np

from kernels.checks import Floats
from kernels.compiled import compiled, inlined, uncounted
from kernels.weighted_sum.cpu import weighted_sum

STRETCH = 2048


@inlined
def _count_owned(row: Any, weight: Any, mask_scale: Any, total: Any, owners: Any) -> None:
    for i in range(owners.size):
        value = weight * row[i]
        owners[i] += np.int32(abs(value) > mask_scale * abs(total[i] - value))


@uncounted
def _clear_unowned(owners: Any, fewest: Any, out: Floats) -> None:
    for i in range(out.size):
        out[i] = out[i] if owners[i] >= fewest else np.float32(0)


@compiled
def consensus(rows: Floats, weights: Floats, mask_scales: Floats, fewest_owners: int, out: Floats) -> None:
    scratch = np.empty(STRETCH, np.int32)
    weighted_sum(rows, weights, out)
    for lo in range(0, out.size, STRETCH):
        part = out[lo : lo + STRETCH]
        owners = scratch[: part.size]
        owners[:] = 0
        for task in range(weights.size):
            _count_owned(rows[task, lo : lo + STRETCH], weights[task], mask_scales[task], part, owners)
        _clear_unowned(owners, np.int32(fewest_owners), part)
