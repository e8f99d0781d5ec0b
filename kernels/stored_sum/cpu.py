"""The sum of stored elements in numba: stretch by stretch, with what lies in between in the L1 cache."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined
from kernels.stored_elements import save
from kernels.stored_rows import STRETCH, base_stretch, stretch


@inlined
def _sum(table: Any, lo: Any, weights: Any, base: Any, spare: Any, total: Any) -> None:
    """The weighted sum of the rows' elements from `lo` on."""
    for k in range(weights.size):
        row, weight = stretch(table, k, lo, base, spare), weights[k]
        if k == 0:
            for i in range(total.size):
                total[i] = weight * row[i]
        else:
            for i in range(total.size):
                total[i] = total[i] + weight * row[i]


@compiled
def stored_sum(table: Integers, weights: Floats, out: Any, kind: Any, size: Any) -> None:
    """`out` is the address of `size` elements of that kind."""
    room = np.empty((2, STRETCH), np.float32)
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        total, spare = room[0, :width], room[1, :width]
        _sum(table, lo, weights, spare, spare, total)
        save(total, out, kind, lo)


@compiled
def stored_delta_sum(table: Integers, weights: Floats, scale: Any, out: Any, kind: Any, size: Any) -> None:
    """The sum of differences from the base, times `scale`, on that base."""
    room = np.empty((3, STRETCH), np.float32)
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        total, spare, base = room[0, :width], room[1, :width], room[2, :width]
        base_stretch(table, lo, base)
        _sum(table, lo, weights, base, spare, total)
        for i in range(width):
            total[i] = base[i] + scale * total[i]
        save(total, out, kind, lo)
