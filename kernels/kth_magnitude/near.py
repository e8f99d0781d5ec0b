"""Counting around a guess in numba: what lies far from it is counted by comparisons alone, without a histogram."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.kth_magnitude.bins import BINS, WINDOW
from kernels.kth_magnitude.cpu import INFINITE, count_top_of, magnitude_bits
from kernels.kth_magnitude.tally import GROUP, tally
from kernels.lanes import trailing_zeros
from kernels.stored_rows import STEP, STRETCH, load_stretches

SAMPLE = 64
"""Elements of each stretch, one in 32, that a sample looks at."""
ABOVE, BETWEEN, NOT_FINITE, INSIDE = 0, 1, 2, 3
"""The first counts of a model: above the upper window, between both, not finite; then each magnitude of the lower
window, then of the upper."""
SPAN = np.uint32(WINDOW * BINS[1])
"""Magnitudes of a window."""
STARTS = 2 * WINDOW
"""Bins of both windows: the smallest magnitude of each is frequent in deltas of bfloat16."""


@uncounted
def sampled_place(stretch: int) -> Any:
    """Where in a stretch its sample begins: all places equally often, in no step with the columns of a matrix."""
    return np.int64(np.uint32(np.uint32(stretch) * np.uint32(2654435761)) >> np.uint32(27)) * SAMPLE


@uncounted
def _sample(table: Integers, size: int, start: int, rows: Floats, out: Integers) -> None:
    for lo in range(0, size, STRETCH):
        first = lo + sampled_place((start + lo) // STRETCH)
        width = min(SAMPLE, size - first)
        if width > 0:
            load_stretches(table, first, width, rows)
            for model in range(out.shape[0]):
                count_top_of(rows[model, :width], out[model])


@compiled
def sample_top(table: Integers, size: int, start: int, out: Integers) -> None:
    _sample(table, size, start, np.empty((out.shape[0] + 1, SAMPLE), np.float32), out)


@uncounted
def count_near_of(row: Floats, low: Any, high: Any, marks: Any, counts: Integers) -> None:
    """`low` and `high` are the bits at which the windows begin; what equals them is counted by itself.

    `marks`, uint64, has room for one word for each 64 elements.
    """
    whole = row.size // GROUP
    past_low, past_high = np.uint32(low + SPAN), np.uint32(high + SPAN)
    above, between, at_low, at_high, largest = tally(row, marks[:whole], low, past_low, high, past_high)
    counts[ABOVE] += above
    counts[BETWEEN] += between
    counts[INSIDE] += at_low
    counts[INSIDE + SPAN] += at_high
    if largest >= INFINITE:
        counts[NOT_FINITE] += _infinite(row[: whole * GROUP])
    for word in range(whole):
        _count_inside(row, word * GROUP, marks[word], low, high, counts)
    for i in range(whole * GROUP, row.size):
        count_one(magnitude_bits(row[i]), low, high, counts)


@uncounted
def _infinite(row: Floats) -> Any:
    count = np.uint32(0)
    for i in range(row.size):
        count += np.uint32(magnitude_bits(row[i]) >= INFINITE)
    return np.int64(count)


@inlined
def _count_inside(row: Any, lo: Any, marks: Any, low: Any, high: Any, counts: Any) -> None:
    while marks:
        bits = magnitude_bits(row[lo + trailing_zeros(marks)])
        counts[INSIDE + (SPAN + bits - high if bits >= high else bits - low)] += 1
        marks &= marks - np.uint64(1)


@uncounted
def count_one(bits: Any, low: Any, high: Any, counts: Integers) -> None:
    after_low, above = np.uint32(low + SPAN), np.uint32(high + SPAN)
    counts[ABOVE] += bits >= above
    counts[BETWEEN] += (bits >= after_low) & (bits < high)
    counts[NOT_FINITE] += bits >= INFINITE
    if low <= bits < after_low:
        counts[INSIDE + bits - low] += 1
    if high <= bits < above:
        counts[INSIDE + SPAN + bits - high] += 1


@uncounted
def _add_starts(counts: Integers, times: int, edges: Integers) -> None:
    """What has been counted of the smallest magnitude of each bin."""
    for model in range(counts.shape[0]):
        for start in range(STARTS):
            edges[model, start] += times * counts[model, INSIDE + start * BINS[1]]


@uncounted
def _count_block(
    table: Integers, lo: int, stop: int, firsts: Integers, rows: Floats, marks: Any, out: Integers
) -> None:
    for first in range(lo, stop, STEP):
        width = min(STEP, stop - first)
        load_stretches(table, first, width, rows)
        for model in range(out.shape[0]):
            low, high = np.uint32(firsts[model, 0] << 15), np.uint32(firsts[model, 1] << 15)
            count_near_of(rows[model, :width], low, high, marks, out[model])


@compiled
def count_near(table: Integers, size: int, firsts: Integers, block: int, out: Integers, edges: Integers) -> None:
    """`block` is a multiple of STEP; what it adds to the counts are its `edges`."""
    rows, marks = np.empty((out.shape[0] + 1, STEP), np.float32), np.empty(STEP // GROUP, np.uint64)
    edges[:] = 0
    for lo in range(0, size, block):
        _add_starts(out, -1, edges[lo // block])
        _count_block(table, lo, min(lo + block, size), firsts, rows, marks, out)
        _add_starts(out, 1, edges[lo // block])
