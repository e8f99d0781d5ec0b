"""Reading the counts: which bin, then which block, holds the entry that is looked for. Small arrays on the host."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kernels.checks import Floats, Integers

BINS = (1 << 16, 1 << 15)
"""Bins of round 0, the top 16 of a magnitude's 31 bits, and of round 1, its low 15."""

WINDOW = 3
"""Bins of a window: each has 32768 magnitudes to count."""

NOTHING = -1
"""The bin or block of a search that keeps no entry."""

UNCUT = np.iinfo(np.int64).max
"""The cut where every entry equal to the threshold is kept."""


class Threshold(NamedTuple):
    """Kept is |x| > magnitude, and |x| == magnitude at flat indices up to and including `cut`."""

    magnitude: np.float32
    cut: int


class Found(NamedTuple):
    """For each model: a bin (or block), the rank looked for within it, and the entries the bin holds."""

    bins: Integers
    ranks: Integers
    held: Integers


def pick_bins(totals: Integers, ranks: Integers) -> Found:
    """The bin of the `ranks`-th largest entry of each model, from int64 totals [models, bins].

    A rank above the number of entries means the smallest entry; a rank of 0 finds NOTHING.
    """
    found = _pick(totals[:, ::-1], np.minimum(ranks, totals.sum(axis=1)))
    return found._replace(bins=np.where(found.bins == NOTHING, NOTHING, totals.shape[1] - 1 - found.bins))


def pick_blocks(counts: Integers, ranks: Integers, columns: Iterable[int] | None = None) -> Found:
    """The block of the `ranks`-th entry of each model in element order, from int64 counts [blocks, models].

    `columns` are those of the models where `counts` has others too. A rank of 0, or one above the number of entries,
    finds NOTHING; the cut is then for the caller to say.
    """
    return _pick(counts.T if columns is None else (counts[:, column] for column in columns), ranks)


def _pick(counts: Iterable[Integers], ranks: Integers) -> Found:
    """Of int64 counts [models, places], each model's first place up to which they add up to its rank."""
    found = [_pick_one(row, int(rank)) for row, rank in zip(counts, ranks, strict=True)]
    return Found(*np.ascontiguousarray(np.array(found, dtype=np.int64).reshape(-1, 3).T))


def _pick_one(counts: Integers, rank: int) -> tuple[int, int, int]:
    """For one model: a running sum over all of them would take much memory where blocks are many."""
    upto = np.cumsum(counts)
    place = int(np.searchsorted(upto, rank))
    if rank <= 0 or place == counts.size:
        return NOTHING, 0, 0
    held = int(counts[place])
    return place, rank - int(upto[place]) + held, held


def magnitudes_of(prefixes: Integers, lows: Integers) -> Floats:
    """The float32 whose bits are those of both rounds' bins; inf where nothing is kept."""
    bits = (prefixes.astype(np.uint32) << np.uint32(15)) | lows.astype(np.uint32)
    return np.where(lows == NOTHING, np.float32(np.inf), bits.view(np.float32))


def kept_ties(cuts: Integers, start: int, size: int) -> Integers:
    """How many first elements of a run keep what equals the threshold, without overflow for a cut of UNCUT."""
    return np.clip(cuts, start - 1, start + size - 1) - (start - 1)
