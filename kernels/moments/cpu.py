"""The sums in numba: 64 chains of additions side by side, so that the loop over them vectorises."""

from typing import Any

import numpy as np

from kernels.checks import Doubles, Floats
from kernels.compiled import compiled, inlined

LANES = 64


@inlined
def _add(tile: Any, magnitude: Any, sums: Any) -> None:
    for i in range(tile.size):
        x = np.float64(tile[i])
        size = abs(x)
        is_beyond, is_tie = size > magnitude, size == magnitude
        sums[0, i] += x
        sums[1, i] += x * x
        sums[2, i] += 1.0 if is_tie else 0.0
        sums[3, i] += (1.0 if x > 0.0 else (-1.0 if x < 0.0 else 0.0)) if is_tie else 0.0
        sums[4, i] += 1.0 if is_beyond else 0.0
        sums[5, i] += size if is_beyond else 0.0
        sums[6, i] += x if is_beyond else 0.0


@compiled
def moments(x: Floats, magnitude: Any, block: int, out: Doubles) -> None:
    limit = np.float64(magnitude)
    sums = np.empty((out.shape[1], LANES), np.float64)
    for b in range(out.shape[0]):
        sums[:] = 0.0
        stop = min(x.size, (b + 1) * block)
        for start in range(b * block, stop, LANES):
            _add(x[start : min(start + LANES, stop)], limit, sums)
        for column in range(out.shape[1]):
            total = 0.0
            for lane in range(LANES):
                total += sums[column, lane]
            out[b, column] = total
