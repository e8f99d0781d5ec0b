"""Counting around a guess in numba: what lies far from it is counted by comparisons alone, without a histogram."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, uncounted
from kernels.kth_magnitude.bins import BINS, WINDOW
from kernels.kth_magnitude.cpu import (
    ASKED,
    INFINITE,
    count_marked,
    count_top_of,
    equal_to,
    magnitude_bits,
)
from kernels.lanes import ones, reaching
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
def count_near_of(row: Floats, low: Any, high: Any, counts: Integers) -> None:
    """`low` and `high` are the bits at which the windows begin; what equals them is counted by itself."""
    lower, upper, whole = counts[INSIDE : INSIDE + SPAN], counts[INSIDE + SPAN :], row.size // ASKED * ASKED
    for lo in range(0, whole, ASKED):
        from_low, from_high = reaching(row, lo, low), reaching(row, lo, high)
        at_low, at_high = equal_to(row, lo, from_low, low), equal_to(row, lo, from_high, high)
        after_low, above = reaching(row, lo, np.uint32(low + SPAN)), reaching(row, lo, np.uint32(high + SPAN))
        counts[ABOVE] += ones(above)
        counts[BETWEEN] += ones(after_low & ~from_high)
        counts[NOT_FINITE] += ones(reaching(row, lo, INFINITE))
        lower[0] += ones(at_low)
        upper[0] += ones(at_high)
        count_marked(row, lo, from_low & ~at_low & ~after_low, low, lower)
        count_marked(row, lo, from_high & ~at_high & ~above, high, upper)
    for i in range(whole, row.size):
        count_one(magnitude_bits(row[i]), low, high, counts)


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
def _count_block(table: Integers, lo: int, stop: int, firsts: Integers, rows: Floats, out: Integers) -> None:
    for first in range(lo, stop, STEP):
        width = min(STEP, stop - first)
        load_stretches(table, first, width, rows)
        for model in range(out.shape[0]):
            low, high = np.uint32(firsts[model, 0] << 15), np.uint32(firsts[model, 1] << 15)
            count_near_of(rows[model, :width], low, high, out[model])


@compiled
def count_near(table: Integers, size: int, firsts: Integers, block: int, out: Integers, edges: Integers) -> None:
    """`block` is a multiple of STEP; what it adds to the counts are its `edges`."""
    rows = np.empty((out.shape[0] + 1, STEP), np.float32)
    edges[:] = 0
    for lo in range(0, size, block):
        _add_starts(out, -1, edges[lo // block])
        _count_block(table, lo, min(lo + block, size), firsts, rows, out)
        _add_starts(out, 1, edges[lo // block])
