"""Counting magnitudes in numba.

The order of float32 magnitudes is the order of their low 31 bits, so the search is for an integer. A plain
histogram needs 0.25 ns per element; several sub-histograms gained nothing here, even on all-equal data.
"""

from typing import Any

import numpy as np

from kernels.bits import bits_of_float
from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.kth_magnitude.bins import UNCUT
from kernels.lanes import ones, reaching, trailing_zeros
from kernels.stored_rows import STRETCH, base_stretch, load_stretches, stretch

ASKED = 64
INFINITE = np.uint32(0x7F800000)


@inlined
def magnitude_bits(value: Any) -> Any:
    return np.uint32(bits_of_float(value) & np.uint32(0x7FFFFFFF))


@uncounted
def count_top_of(row: Floats, counts: Integers) -> None:
    for i in range(row.size):
        counts[magnitude_bits(row[i]) >> np.uint32(15)] += 1


@uncounted
def _count_tops(table: Integers, size: int, rows: Floats, out: Integers) -> None:
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        load_stretches(table, lo, width, rows)
        for model in range(out.shape[0]):
            count_top_of(rows[model, :width], out[model])


@compiled
def count_top(table: Integers, size: int, out: Integers) -> None:
    _count_tops(table, size, np.empty((out.shape[0] + 1, STRETCH), np.float32), out)


@uncounted
def count_equal(row: Floats, bits: Any) -> Any:
    count = np.uint32(0)
    for i in range(row.size):
        count += np.uint32(magnitude_bits(row[i]) == bits)
    return np.int64(count)


@inlined
def equal_to(row: Any, lo: Any, from_bits: Any, bits: Any) -> Any:
    """Which of 64 elements are equal to `bits`, of those that reach them."""
    return from_bits & ~reaching(row, lo, np.uint32(bits + np.uint32(1)))


@inlined
def count_marked(row: Any, lo: Any, marks: Any, begin: Any, counts: Any) -> None:
    while marks:
        counts[magnitude_bits(row[lo + trailing_zeros(marks)]) - begin] += 1
        marks &= marks - np.uint64(1)


@uncounted
def count_low_of(row: Floats, prefix: Any, counts: Integers) -> Any:
    """Count each magnitude of one bin; returns how many have the smallest.

    That one, frequent in bfloat16 deltas, is counted by itself. Many elements are asked at once, without a branch,
    whether any others count: 10 times faster than asking each.
    """
    edge = np.uint32(np.uint32(prefix) << np.uint32(15))
    equal, whole = np.int64(0), row.size // ASKED * ASKED
    for lo in range(0, whole, ASKED):
        from_edge = reaching(row, lo, edge)
        at_edge = equal_to(row, lo, from_edge, edge)
        equal += ones(at_edge)
        marks = from_edge & ~at_edge & ~reaching(row, lo, np.uint32(edge + np.uint32(0x8000)))
        count_marked(row, lo, marks, edge, counts)
    for i in range(whole, row.size):
        beyond = np.uint32(magnitude_bits(row[i]) - edge)
        equal += beyond == 0
        if 0 < beyond < 0x8000:
            counts[beyond] += 1
    counts[0] += equal
    return equal


@uncounted
def _count_lows(
    table: Integers, size: int, prefixes: Integers, block: int, rows: Floats, out: Integers, edges: Integers
) -> None:
    edges[:] = 0
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        load_stretches(table, lo, width, rows)
        for model in range(out.shape[0]):
            edges[lo // block, model] += count_low_of(rows[model, :width], prefixes[model], out[model])


@compiled
def count_low(table: Integers, size: int, prefixes: Integers, block: int, out: Integers, edges: Integers) -> None:
    """`block` is a multiple of STRETCH."""
    _count_lows(table, size, prefixes, block, np.empty((out.shape[0] + 1, STRETCH), np.float32), out, edges)


@uncounted
def _count_ties(table: Integers, size: int, magnitudes: Floats, block: int, rows: Floats, out: Integers) -> None:
    out[:] = 0
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        load_stretches(table, lo, width, rows)
        for model in range(out.shape[1]):
            out[lo // block, model] += count_equal(rows[model, :width], magnitude_bits(magnitudes[model]))


@compiled
def count_ties(table: Integers, size: int, magnitudes: Floats, block: int, out: Integers) -> None:
    """`block` is a multiple of STRETCH."""
    _count_ties(table, size, magnitudes, block, np.empty((out.shape[1] + 1, STRETCH), np.float32), out)


@compiled
def _tie_position(table: Integers, size: int, model: int, lo: int, magnitude: Any, rank: Any) -> Any:
    """The index of the `rank`-th element of `magnitude` from `lo` on; `size` where there are fewer."""
    room, bits, seen = np.empty((2, STRETCH), np.float32), magnitude_bits(magnitude), 0
    for first in range(lo, size, STRETCH):
        base, own = room[0, : min(STRETCH, size - first)], room[1, : min(STRETCH, size - first)]
        base_stretch(table, first, base)
        row = stretch(table, model, first, base, own)
        for i in range(row.size):
            seen += magnitude_bits(row[i]) == bits
            if seen == rank:
                return first + i
    return size


@uncounted
def cuts(
    table: Integers, size: int, start: int, magnitudes: Floats, firsts: Integers, ranks: Integers, out: Integers
) -> None:
    """The flat index of the last tie kept of each model, as far as this run can tell."""
    for model in range(out.size):
        lo = firsts[model] - start
        if lo < 0:
            out[model] = -1
        elif lo >= size:
            out[model] = UNCUT
        else:
            out[model] = start + _tie_position(table, size, model, lo, magnitudes[model], ranks[model])
