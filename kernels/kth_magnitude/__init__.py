"""The exact k-th largest magnitude, without a sort, from counts that may be taken in any order.

Over chunks that start at multiples of BLOCK, on any number of threads:

    round 0   add up magnitude_histogram(rows, 0);            top = pick_bins(total, ks)
    round 1   add up magnitude_histogram(rows, 1, top.bins);  low = pick_bins(total, top.ranks)
              magnitudes = magnitudes_of(top.bins, low.bins)
    round 2   only where low.ranks < low.held, that is where some entries equal to the threshold are kept and
              some are not: concatenate tie_counts(rows, magnitudes); ties = pick_blocks(counts, low.ranks)
    then      cuts = chunk_cuts(rows, start, magnitudes, ties.bins, ties.ranks), or UNCUT without a round 2

Kept is then what `trim_elect` keeps: |x| > magnitude, or |x| == magnitude at a flat index up to the cut.
Exactly k entries are kept, and of equal ones those with the lowest index. −0 equals 0; NaN counts as larger
than inf. k = 0 keeps nothing (magnitude inf, cut −1); k of at least the size keeps everything.
"""

import numpy as np

from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array
from kernels.dispatch import operation
from kernels.gram import BLOCK
from kernels.kth_magnitude import cpu
from kernels.kth_magnitude.bins import (
    BINS,
    NOTHING,
    UNCUT,
    Found,
    Threshold,
    magnitudes_of,
    pick_bins,
    pick_blocks,
)

__all__ = [
    "BINS",
    "BLOCK",
    "NOTHING",
    "UNCUT",
    "Found",
    "Threshold",
    "chunk_cuts",
    "kth_magnitude",
    "magnitude_histogram",
    "magnitudes_of",
    "pick_bins",
    "pick_blocks",
    "tie_counts",
]


@operation
def magnitude_histogram(
    rows: Floats, round_: int, prefixes: Integers | None = None, out: Integers | None = None
) -> Integers:
    """How many entries of each model fall into each bin: int64 [models, BINS[round_]].

    Round 0 counts the top 16 bits of the 31-bit magnitude, round 1 the low 15 of the entries whose top bits
    are the model's `prefixes` (NOTHING counts none). `out` is added to, so one array serves many chunks.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    if out is None:
        out = np.zeros((len(rows), BINS[round_]), np.int64)
    check_array("out", out, INT64, (len(rows), BINS[round_]))
    if round_ == 0:
        cpu.count_top(rows, out)
    elif prefixes is None:
        raise ValueError(f"prefixes: found None, expected the bins of {len(rows)} models found by round 0")
    else:
        check_array("prefixes", prefixes, INT64, (len(rows),))
        cpu.count_low(rows, prefixes, out)
    return out


@operation
def tie_counts(rows: Floats, magnitudes: Floats) -> Integers:
    """How many entries of each model have exactly this magnitude: int64 [blocks, models], one row per BLOCK."""
    check_array("rows", rows, FLOAT32, (None, None))
    check_array("magnitudes", magnitudes, FLOAT32, (len(rows),))
    counts = np.empty((-(-rows.shape[1] // BLOCK), len(rows)), np.int64)
    cpu.count_ties(rows, magnitudes, BLOCK, counts)
    return counts


@operation
def chunk_cuts(rows: Floats, start: int, magnitudes: Floats, blocks: Integers, ranks: Integers) -> Integers:
    """The flat index of the last tie kept of each model, as far as this chunk can tell: int64 [models].

    `blocks` and `ranks` are what `pick_blocks` found. A chunk that holds the block (it must hold all of it)
    gets the exact index, one before it UNCUT, one after it −1: each keeps the same entries as the exact index.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    for name, array, dtype in (("magnitudes", magnitudes, FLOAT32), ("blocks", blocks, INT64), ("ranks", ranks, INT64)):
        check_array(name, array, dtype, (len(rows),))
    return np.array([_cut(row, start, *found) for row, *found in zip(rows, magnitudes, blocks, ranks, strict=True)])


def _cut(row: Floats, start: int, magnitude: np.float32, block: np.int64, rank: np.int64) -> np.int64:
    lo = block * BLOCK - start
    if block == NOTHING or lo < 0:
        return np.int64(-1)
    if lo >= row.size:
        return np.int64(UNCUT)
    return np.int64(start + lo + cpu.tie_position(row[lo : lo + BLOCK], magnitude, rank))


@operation
def kth_magnitude(x: Floats, k: int) -> Threshold:
    """The threshold that keeps exactly min(k, len(x)) entries of a 1-D float32 array."""
    check_array("x", x, FLOAT32, (None,))
    if k < 0:
        raise ValueError(f"k: found {k}, expected at least 0")
    rows = x[None]
    top = pick_bins(magnitude_histogram(rows, 0), np.array([k]))
    low = pick_bins(magnitude_histogram(rows, 1, top.bins), top.ranks)
    magnitudes = magnitudes_of(top.bins, low.bins)
    ties = pick_blocks(tie_counts(rows, magnitudes), low.ranks)
    return Threshold(magnitudes[0], int(chunk_cuts(rows, 0, magnitudes, ties.bins, ties.ranks)[0]))
