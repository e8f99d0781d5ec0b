"""The spread in numba: sums of a stretch of elements stay in the L1 cache while the models go by."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined
from kernels.stored_rows import base_stretch, stretch

STEP = 512


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
def spread(table: Integers, models: int, out: Floats) -> None:
    sums, floats = np.empty((2, STEP), np.float64), np.empty((2, STEP), np.float32)
    for lo in range(0, out.size, STEP):
        part = out[lo : lo + STEP]
        base, room = floats[0, : part.size], floats[1, : part.size]
        total, squares = sums[0, : part.size], sums[1, : part.size]
        base_stretch(table, lo, base)
        sums[:] = 0.0
        for model in range(models):
            _add(stretch(table, model, lo, base, room), total, squares)
        _finish(np.float64(models), total, squares, part)
