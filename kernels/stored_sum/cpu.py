"""The sum of stored elements in numba: stretch by stretch, with what lies in between in the L1 cache."""

from typing import Any

import numpy as np

from kernels.addresses import halves
from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.storage.cpu import from_bfloat16
from kernels.stored_elements import save
from kernels.stored_rows import STRETCH, base_stretch, is_bfloat16, stretch

STEP = 512
"""Elements of a bfloat16 row that are read before those of the next: of more, every page is waited for."""


@inlined
def _first(a: Any, x: Any, base: Any, total: Any) -> None:
    for i in range(total.size):
        total[i] = a * (from_bfloat16(x[i]) - from_bfloat16(base[i]))


@inlined
def _next(a: Any, x: Any, base: Any, total: Any) -> None:
    for i in range(total.size):
        total[i] = total[i] + a * (from_bfloat16(x[i]) - from_bfloat16(base[i]))


@inlined
def _four(weights: Any, p: Any, q: Any, r: Any, s: Any, base: Any, total: Any) -> None:
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for i in range(total.size):
        o = from_bfloat16(base[i])
        left = a * (from_bfloat16(p[i]) - o) + b * (from_bfloat16(q[i]) - o)
        total[i] = (left + c * (from_bfloat16(r[i]) - o)) + d * (from_bfloat16(s[i]) - o)


@inlined
def _bfloat16_sum(table: Any, lo: Any, weights: Any, base: Any, total: Any) -> None:
    """The same where models and base are bfloat16, widened in registers: four models at once at first, as memory
    is read faster from a few places at a time than from one after the other."""
    width, k = total.size, 1
    if weights.size >= 4:
        p, q = halves(table[1, 0], lo, width), halves(table[2, 0], lo, width)
        r, s = halves(table[3, 0], lo, width), halves(table[4, 0], lo, width)
        _four(weights, p, q, r, s, base, total)
        k = 4
    else:
        _first(weights[0], halves(table[1, 0], lo, width), base, total)
    while k < weights.size:
        _next(weights[k], halves(table[k + 1, 0], lo, width), base, total)
        k += 1


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


@inlined
def _put_on_bfloat16(base: Any, scale: Any, total: Any) -> None:
    for i in range(total.size):
        total[i] = from_bfloat16(base[i]) + scale * total[i]


@inlined
def _put_on(base: Any, scale: Any, total: Any) -> None:
    for i in range(total.size):
        total[i] = base[i] + scale * total[i]


@uncounted
def _add_up(table: Integers, weights: Floats, out: Any, kind: Any, size: Any, room: Floats, zeros: Any) -> None:
    """`room` is of zeros, as `zeros` are: what there is instead of a base."""
    is_narrow = is_bfloat16(table)
    step = STEP if is_narrow else STRETCH
    for lo in range(0, size, step):
        width = min(step, size - lo)
        total, spare, nothing = room[0, :width], room[1, :width], room[2, :width]
        if is_narrow:
            _bfloat16_sum(table, lo, weights, zeros, total)  # x − 0 is x, to the bit
        else:
            _sum(table, lo, weights, nothing, spare, total)
        save(total, out, kind, lo)


@compiled
def stored_sum(table: Integers, weights: Floats, out: Any, kind: Any, size: Any) -> None:
    """`out` is the address of `size` elements of that kind."""
    _add_up(table, weights, out, kind, size, np.zeros((3, STRETCH), np.float32), np.zeros(STEP, np.uint16))


@uncounted
def _add_up_on(table: Integers, weights: Floats, scale: Any, out: Any, kind: Any, size: Any, room: Floats) -> None:
    is_narrow = is_bfloat16(table)
    step = STEP if is_narrow else STRETCH
    for lo in range(0, size, step):
        width = min(step, size - lo)
        total, spare, base = room[0, :width], room[1, :width], room[2, :width]
        if is_narrow:
            raw = halves(table[0, 0], lo, width)
            _bfloat16_sum(table, lo, weights, raw, total)
            _put_on_bfloat16(raw, scale, total)
        else:
            base_stretch(table, lo, base)
            _sum(table, lo, weights, base, spare, total)
            _put_on(base, scale, total)
        save(total, out, kind, lo)


@compiled
def stored_delta_sum(table: Integers, weights: Floats, scale: Any, out: Any, kind: Any, size: Any) -> None:
    """The sum of differences from the base, times `scale`, on that base."""
    _add_up_on(table, weights, scale, out, kind, size, np.empty((3, STRETCH), np.float32))
