"""The exact k-th largest magnitude, without a sort, from counts that may be taken in any order.

Over chunks that start at multiples of BLOCK, on any number of threads:

    guess     optional: add up sample_histogram(rows, start), then near_histogram(rows, guess(total, ks, n)); where
              ABOVE < k and the rank k − ABOVE lies inside, rounds 0 and 1 have nothing left to find; where it does
              not, they may be spared by a near_histogram of guess_again
    round 0   add up magnitude_histogram(rows, 0);            top = pick_bins(total, ks)
    round 1   add up magnitude_histogram(rows, 1, top.bins, edges=e) and concatenate e;
              low = pick_bins(total, top.ranks);  magnitudes = magnitudes_of(top.bins, low.bins)
    round 2   only where low.ranks < low.held, that is where some entries equal to the threshold are kept and
              some are not: ties = pick_blocks(e, low.ranks) if all the low.bins are 0, as they nearly always are
              with deltas of bfloat16; else concatenate tie_counts(rows, magnitudes) and pick from these
    then      cuts = chunk_cuts(rows, start, magnitudes, ties.bins * BLOCK, ties.ranks), or UNCUT without a round 2

Kept is then what `trim_elect` keeps: |x| > magnitude, or |x| == magnitude at a flat index up to the cut.
Exactly k entries are kept, and of equal ones those with the lowest index. −0 equals 0; NaN counts as larger
than inf. k = 0 keeps nothing (magnitude inf, cut −1); k of at least the size keeps everything.
"""

import numpy as np

from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array, output
from kernels.dispatch import operation
from kernels.gram import BLOCK
from kernels.kth_magnitude import cpu, near
from kernels.kth_magnitude.bins import (
    BINS,
    NOTHING,
    UNCUT,
    WINDOW,
    Found,
    Threshold,
    magnitudes_of,
    pick_bins,
    pick_blocks,
)
from kernels.kth_magnitude.guesses import Near, guess, guess_again
from kernels.kth_magnitude.near import ABOVE, BETWEEN, INSIDE, NOT_FINITE, STARTS
from kernels.stored_rows import Rows, table_of

__all__ = [
    "ABOVE",
    "BETWEEN",
    "BINS",
    "BLOCK",
    "INSIDE",
    "NEAR_COUNTS",
    "NOTHING",
    "NOT_FINITE",
    "STARTS",
    "UNCUT",
    "WINDOW",
    "Found",
    "Near",
    "Threshold",
    "chunk_cuts",
    "guess",
    "guess_again",
    "kth_magnitude",
    "magnitude_histogram",
    "magnitudes_of",
    "near_histogram",
    "pick_bins",
    "pick_blocks",
    "sample_histogram",
    "tie_counts",
]

NEAR_COUNTS = INSIDE + 2 * WINDOW * BINS[1]
"""What `near_histogram` counts of each model."""


@operation
def magnitude_histogram(
    rows: Rows,
    round_: int,
    prefixes: Integers | None = None,
    out: Integers | None = None,
    edges: Integers | None = None,
) -> Integers:
    """How many entries of each model fall into each bin: int64 [models, BINS[round_]].

    Round 0 counts the top 16 bits of the 31-bit magnitude, round 1 the low 15 of the entries whose top bits
    are the model's `prefixes` (NOTHING counts none). `out` is added to, so one array serves many chunks.
    Round 1 fills `edges`, int64 [blocks, models], with how many of each BLOCK fall into its bin 0.
    """
    table, models, size = table_of("rows", rows)
    out = np.zeros((models, BINS[round_]), np.int64) if out is None else out
    check_array("out", out, INT64, (models, BINS[round_]))
    if round_ == 0:
        cpu.count_top(table, size, out)
        return out
    if prefixes is None:
        raise ValueError(f"prefixes: found None, expected the bins of {models} models found by round 0")
    check_array("prefixes", prefixes, INT64, (models,))
    edges = output("edges", edges, INT64, (-(-size // BLOCK), models))
    cpu.count_low(table, size, prefixes, BLOCK, out, edges)
    return out


@operation
def sample_histogram(rows: Rows, start: int, out: Integers | None = None) -> Integers:
    """Round 0's counts of one element in 32, those that their flat index chooses: int64 [models, BINS[0]].

    The rows' first element has the flat index `start`; `out` is added to.
    """
    table, models, size = table_of("rows", rows)
    out = np.zeros((models, BINS[0]), np.int64) if out is None else out
    check_array("out", out, INT64, (models, BINS[0]))
    near.sample_top(table, size, start, out)
    return out


@operation
def near_histogram(rows: Rows, guess: Near, out: Integers | None = None, edges: Integers | None = None) -> Integers:
    """How many entries of each model are above the windows, between them, not finite, and of each magnitude within.

    int64 [models, INSIDE + 2·WINDOW·BINS[1]]; `out` is added to. Fills `edges`, int64 [blocks, models, STARTS], with
    how many of each BLOCK have the smallest magnitude of each bin of the windows.
    """
    table, models, size = table_of("rows", rows)
    check_array("firsts", guess.firsts, INT64, (models, 2))
    shape = models, NEAR_COUNTS
    out = np.zeros(shape, np.int64) if out is None else out
    check_array("out", out, INT64, shape)
    edges = output("edges", edges, INT64, (-(-size // BLOCK), models, STARTS))
    near.count_near(table, size, guess.firsts, BLOCK, out, edges)
    return out


@operation
def tie_counts(rows: Rows, magnitudes: Floats) -> Integers:
    """How many entries of each model have exactly this magnitude: int64 [blocks, models], one row per BLOCK."""
    table, models, size = table_of("rows", rows)
    check_array("magnitudes", magnitudes, FLOAT32, (models,))
    counts = np.empty((-(-size // BLOCK), models), np.int64)
    cpu.count_ties(table, size, magnitudes, BLOCK, counts)
    return counts


@operation
def chunk_cuts(rows: Rows, start: int, magnitudes: Floats, firsts: Integers, ranks: Integers) -> Integers:
    """The flat index of the last tie kept of each model, as far as this chunk can tell: int64 [models].

    `firsts` are the flat indices at which the blocks begin that `pick_blocks` found (−1 for NOTHING), `ranks` the
    ranks within them. A chunk that holds the block (it must hold all of it) gets the exact index, one before it
    UNCUT, one after it −1: each keeps the same entries as the exact index.
    """
    table, models, size = table_of("rows", rows)
    for name, array, dtype in (("magnitudes", magnitudes, FLOAT32), ("firsts", firsts, INT64), ("ranks", ranks, INT64)):
        check_array(name, array, dtype, (models,))
    cuts = np.empty(models, np.int64)
    cpu.cuts(table, size, start, magnitudes, firsts, ranks, cuts)
    return cuts


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
    return Threshold(magnitudes[0], int(chunk_cuts(rows, 0, magnitudes, ties.bins * BLOCK, ties.ranks)[0]))
