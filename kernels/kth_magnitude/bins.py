"""Reading the counts: which bin, then which block, holds the entry that is looked for. Small arrays on the host."""

from collections.abc import Iterable
from math import erf, prod, sqrt
from typing import NamedTuple

import numpy as np

from kernels.checks import Doubles, Floats, Integers

BINS = (1 << 16, 1 << 15)
"""Bins of round 0, the top 16 of a magnitude's 31 bits, and of round 1, its low 15."""

WIDER = 1.2
"""How much wider a sample's ranks scatter than those of independent draws, as neighbours resemble each other."""

WINDOW = 3
"""Bins of a window: each has 32768 magnitudes to count."""

FAR = 3.0
"""Deviations of a sample's rank beyond which nothing is expected."""

ENOUGH = 0.5
"""How likely a guess has to be: it saves two rounds, and costs one if it fails."""

NOTHING = -1
"""The bin or block of a search that keeps no entry."""

UNCUT = np.iinfo(np.int64).max
"""The cut where every entry equal to the threshold is kept."""


class Threshold(NamedTuple):
    """Kept is |x| > magnitude, and |x| == magnitude at flat indices up to and including `cut`."""

    magnitude: np.float32
    cut: int


class Near(NamedTuple):
    """Where a search is likely to end: in one of two windows of WINDOW bins of round 0.

    int64 [models, 2]: the first bin of each, the lower window first. Both are beyond the last bin where a model has
    nothing to search for.
    """

    firsts: Integers


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


def guess(samples: Integers, ranks: Integers, size: int) -> Near | None:
    """Where the `ranks`-th largest of `size` entries lie, by round 0's counts int64 [models, bins] of a sample.

    None where the sample leaves so many bins that some entry is likely to lie outside the windows.
    """
    found = [_guess_one(*row, size) for row in zip(samples, ranks, strict=True)]
    windows, chances = [pair for pair, _ in found], [chance for _, chance in found]
    return Near(np.array(windows, dtype=np.int64).reshape(-1, 2)) if prod(chances) >= ENOUGH else None


def _guess_one(samples: Integers, rank: int, size: int) -> tuple[tuple[int, int], float]:
    """The windows, and how likely they are to hold the entry."""
    if rank <= 0 or rank >= size:
        return (len(samples), len(samples)), 1.0
    chances, lowest = _chances(samples, rank / size)
    pairs = [_peaks(chances), _run(chances)]
    covered = [sum(chances[max(first, 0) : max(first + WINDOW, 0)].sum() for first in pair) for pair in pairs]
    low, high = pairs[int(np.argmax(covered))]
    return (max(lowest + low, 0), lowest + high), max(covered)


def _chances(samples: Integers, share: float) -> tuple[Doubles, int]:
    """How likely each bin is to hold the last of that share of largest entries; and the first bin, the rest being 0."""
    likely, upto = samples.sum() * share, np.cumsum(samples[::-1])
    deviation = WIDER * sqrt(likely * (1 - share)) + 1
    first, last = np.searchsorted(upto[:-1], [likely - FAR * deviation, likely + FAR * deviation])
    places = np.append(upto[first - 1] if first else 0, upto[first : last + 1])
    return np.diff([erf((place - likely) / deviation / sqrt(2)) / 2 for place in places])[::-1], len(samples) - 1 - last


def _peaks(chances: Doubles) -> tuple[int, int]:
    """Windows that begin with the likeliest bins: in deltas of bfloat16 each is one magnitude, its places counted."""
    first = int(np.argmax(chances))
    rest = chances.copy()
    rest[first : first + WINDOW] = -1.0
    second = int(np.argmax(rest))
    if second < first:
        return min(second, first - WINDOW), first
    return first, max(second, first + WINDOW)


def _run(chances: Doubles) -> tuple[int, int]:
    """Two windows next to each other, as a smooth distribution needs them."""
    sums = np.convolve(chances, np.ones(2 * WINDOW), "valid") if chances.size > 2 * WINDOW else np.ones(1)
    first = int(np.argmax(sums))
    return first, first + WINDOW


def magnitudes_of(prefixes: Integers, lows: Integers) -> Floats:
    """The float32 whose bits are those of both rounds' bins; inf where nothing is kept."""
    bits = (prefixes.astype(np.uint32) << np.uint32(15)) | lows.astype(np.uint32)
    return np.where(lows == NOTHING, np.float32(np.inf), bits.view(np.float32))


def kept_ties(cuts: Integers, start: int, size: int) -> Integers:
    """How many first elements of a run keep what equals the threshold, without overflow for a cut of UNCUT."""
    return np.clip(cuts, start - 1, start + size - 1) - (start - 1)
