"""Counting around a guess in numba: what lies far from it is counted by comparisons alone, without a histogram."""

from typing import Any

import numpy as np

from kernels.checks import Integers
from kernels.compiled import compiled
from kernels.kth_magnitude.cpu import count_near_of, count_top_of
from kernels.stored_rows import STRETCH, load_stretches

SAMPLE = 64
"""Elements of each stretch, one in 32, that a sample looks at."""
INSIDE = 2
"""After what is above and what is not finite, the first count of one magnitude."""


@compiled
def sampled_place(stretch: int) -> Any:
    """Where in a stretch its sample begins: all places equally often, in no step with the columns of a matrix."""
    return np.int64(np.uint32(np.uint32(stretch) * np.uint32(2654435761)) >> np.uint32(27)) * SAMPLE


@compiled
def sample_top(table: Integers, size: int, start: int, out: Integers) -> None:
    rows = np.empty((out.shape[0] + 1, SAMPLE), np.float32)
    for lo in range(0, size, STRETCH):
        first = lo + sampled_place((start + lo) // STRETCH)
        width = min(SAMPLE, size - first)
        if width > 0:
            load_stretches(table, first, width, rows)
            for model in range(out.shape[0]):
                count_top_of(rows[model, :width], out[model])


@compiled
def count_near(
    table: Integers,
    size: int,
    firsts: Integers,
    bins: int,
    middles: Integers,
    block: int,
    out: Integers,
    edges: Integers,
) -> None:
    """`block` is a multiple of STRETCH."""
    rows = np.empty((out.shape[0] + 1, STRETCH), np.float32)
    edges[:] = 0
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        load_stretches(table, lo, width, rows)
        for model in range(out.shape[0]):
            begin, edge = np.uint32(firsts[model] << 15), np.uint32(middles[model] << 15)
            end, counts = np.uint32(begin + np.uint32(bins << 15)), out[model]
            edges[lo // block, model] += count_near_of(rows[model, :width], begin, end, edge, counts, counts[INSIDE:])
