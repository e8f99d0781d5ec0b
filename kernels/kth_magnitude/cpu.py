"""Counting magnitudes in numba.

The order of float32 magnitudes is the order of their low 31 bits, so the search is for an integer. A plain
histogram needs 0.25 ns per element; several sub-histograms gained nothing here, even on all-equal data.
"""

from typing import Any

import numpy as np

from kernels.bits import bits_of_float
from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined
from kernels.kth_magnitude.bins import UNCUT
from kernels.stored_rows import STRETCH, base_stretch, load_stretches, stretch

ASKED = 64


@inlined
def magnitude_bits(value: Any) -> Any:
    return np.uint32(bits_of_float(value) & np.uint32(0x7FFFFFFF))


@compiled
def count_top_of(row: Floats, counts: Integers) -> None:
    for i in range(row.size):
        counts[magnitude_bits(row[i]) >> np.uint32(15)] += 1


@compiled
def count_top(table: Integers, size: int, out: Integers) -> None:
    rows = np.empty((out.shape[0] + 1, STRETCH), np.float32)
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        load_stretches(table, lo, width, rows)
        for model in range(out.shape[0]):
            count_top_of(rows[model, :width], out[model])


@inlined
def _is_above_edge(value: Any, edge: Any) -> Any:
    """Whether a magnitude is in the bin that begins at `edge`, and is not its smallest: one comparison."""
    beyond = np.uint32(np.uint32(magnitude_bits(value) - edge) - np.uint32(1))
    return beyond < np.uint32(0x7FFF)


@compiled
def _any_above_edge(row: Floats, edge: Any) -> bool:
    found = np.uint32(0)
    for i in range(row.size):
        found |= np.uint32(_is_above_edge(row[i], edge))
    return bool(found != 0)


@compiled
def _count_above_edge(row: Floats, edge: Any, counts: Integers) -> None:
    """Asks many elements at once, without a branch, whether any counts: 10 times faster than asking each."""
    for lo in range(0, row.size, ASKED):
        part = row[lo : lo + ASKED]
        if _any_above_edge(part, edge):
            for i in range(part.size):
                if _is_above_edge(part[i], edge):
                    counts[magnitude_bits(part[i]) & np.uint32(0x7FFF)] += 1


@compiled
def _count_equal(row: Floats, bits: Any) -> Any:
    count = np.uint32(0)
    for i in range(row.size):
        count += np.uint32(magnitude_bits(row[i]) == bits)
    return count


@compiled
def count_low_of(row: Floats, prefix: Any, counts: Integers) -> Any:
    """A bin's smallest magnitude, frequent in bfloat16 deltas, is counted apart; returns how many there are."""
    edge = np.uint32(np.uint32(prefix) << np.uint32(15))
    equal = np.int64(_count_equal(row, edge))
    counts[0] += equal
    if _any_above_edge(row, edge):
        _count_above_edge(row, edge, counts)
    return equal


@compiled
def count_low(table: Integers, size: int, prefixes: Integers, block: int, out: Integers, edges: Integers) -> None:
    """`block` is a multiple of STRETCH."""
    rows = np.empty((out.shape[0] + 1, STRETCH), np.float32)
    edges[:] = 0
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        load_stretches(table, lo, width, rows)
        for model in range(out.shape[0]):
            edges[lo // block, model] += count_low_of(rows[model, :width], prefixes[model], out[model])


@compiled
def count_ties(table: Integers, size: int, magnitudes: Floats, block: int, out: Integers) -> None:
    """`block` is a multiple of STRETCH."""
    rows = np.empty((out.shape[1] + 1, STRETCH), np.float32)
    out[:] = 0
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        load_stretches(table, lo, width, rows)
        for model in range(out.shape[1]):
            out[lo // block, model] += _count_equal(rows[model, :width], magnitude_bits(magnitudes[model]))


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


@compiled
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
