"""The spread in numba: sums of a stretch of elements stay in the L1 cache while the models go by."""

from typing import Any

import numpy as np

from kernels.checks import Doubles, Floats
from kernels.compiled import compiled, inlined

STRETCH = 512


@inlined
def _add(row: Any, total: Any, squares: Any) -> None:
    for i in range(row.size):
        x = np.float64(row[i])
        total[i] += x
        squares[i] += x * x


@inlined
def _finish(count: Any, total: Any, squares: Any, out: Any) -> None:
    for i in range(out.size):
        value = count * squares[i] - total[i] * total[i]
        # Not max(): a NaN has to come through.
        out[i] = np.float32(np.sqrt(0.0 if value < 0.0 else value))


@compiled
def spread(rows: Floats, out: Floats) -> None:
    models, size = rows.shape
    sums: Doubles = np.empty((2, STRETCH), np.float64)
    for lo in range(0, size, STRETCH):
        hi = min(lo + STRETCH, size)
        sums[:] = 0.0
        total, squares = sums[0, : hi - lo], sums[1, : hi - lo]
        for model in range(models):
            _add(rows[model, lo:hi], total, squares)
        _finish(np.float64(models), total, squares, out[lo:hi])
