"""Guessing from a sample in which bins an entry lies, and better once they have been counted. Small arrays."""

from math import erf, prod, sqrt
from typing import NamedTuple

import numpy as np

from kernels.checks import Doubles, Integers
from kernels.kth_magnitude.bins import WINDOW

WIDER = 1.2
"""How much wider a sample's ranks scatter than those of independent draws, as neighbours resemble each other."""

FAR = 3.0
"""Deviations of a sample's rank beyond which nothing is expected."""

ENOUGH = 0.1
"""How likely a guess has to be: it saves a round if it holds, and costs one if the guess after it fails too."""


class Sample(NamedTuple):
    """What a sample has counted of one model from bin `lowest` on: int64 [bins]; `share` of all entries are in it."""

    lowest: int
    counts: Integers
    share: float

    def part(self, first: int, stop: int) -> "Sample":
        """Of the bins from `first` up to `stop`."""
        lo, hi = (min(max(place - self.lowest, 0), self.counts.size) for place in (first, stop))
        return Sample(self.lowest + lo, self.counts[lo:hi], self.share)


class Near(NamedTuple):
    """Where a search is likely to end: in one of two windows of WINDOW bins of round 0.

    `firsts`, int64 [models, 2], are the first bins of each, the lower window first; both are beyond the last bin
    where a model has nothing to search for. `samples` are what the windows were chosen by.
    """

    firsts: Integers
    samples: tuple[Sample, ...] = ()


class _Guess(NamedTuple):
    """The windows of one model, and how likely they are to hold its entry."""

    firsts: tuple[int, int]
    chance: float
    sample: Sample


def guess(samples: Integers, ranks: Integers, size: int) -> Near | None:
    """Where the `ranks`-th largest of `size` entries lie, by round 0's counts int64 [models, bins] of a sample.

    None where the sample leaves so many bins that some entry is likely to lie outside the windows.
    """
    return _near([_guess_one(counts, int(rank), size) for counts, rank in zip(samples, ranks, strict=True)])


def guess_again(near: Near, counts: Integers, ranks: Integers) -> Near | None:
    """The next guess where one has failed: far better, as a sample is now asked only for what lies beyond a window.

    `counts`, int64 [models, 4], are the entries above both windows, in the upper, between them, and in the lower.
    """
    rows = zip(near.firsts.tolist(), near.samples, np.cumsum(counts, axis=1).tolist(), ranks.tolist(), strict=True)
    return _near([_guess_beyond((low, high), *others) for (low, high), *others in rows])


def _near(guesses: list[_Guess]) -> Near | None:
    if prod(one.chance for one in guesses) < ENOUGH:
        return None
    firsts = np.array([one.firsts for one in guesses], dtype=np.int64).reshape(-1, 2)
    return Near(firsts, tuple(one.sample for one in guesses))


def _guess_one(counts: Integers, rank: int, size: int) -> _Guess:
    if rank <= 0 or rank >= size:
        return _Guess((counts.size, counts.size), 1.0, Sample(counts.size, np.empty(0, np.int64), 0.0))
    taken, upto = counts.sum(), np.cumsum(counts[::-1])
    likely, deviation = taken * (rank / size), _deviation(taken * (rank / size), rank / size)
    first, last = np.searchsorted(upto[:-1], [likely - FAR * deviation, likely + FAR * deviation]).tolist()
    lowest, before = counts.size - 1 - last, upto[first - 1] if first else 0
    sample = Sample(lowest, counts[lowest : counts.size - first].copy(), taken / size)
    return _windows(sample, sample, _chances(sample.counts[::-1], likely - before, deviation)[::-1])


def _guess_beyond(firsts: tuple[int, int], sample: Sample, upto: list[int], rank: int) -> _Guess:
    """`upto` are the entries from the largest to the end of the upper window, to its start, and so on downwards."""
    (low, high), (above, upper, between, lower) = firsts, upto
    if not sample.counts.size:
        return _Guess(firsts, 1.0, sample)
    if rank <= above:
        part = sample.part(high + WINDOW, sample.lowest + sample.counts.size)
        likely = (above - rank + 0.5) * sample.share
        return _windows(sample, part, _chances(part.counts, likely, _deviation(likely, 0.0)))
    if upper < rank <= between:
        part, share = sample.part(low + WINDOW, high), (rank - upper - 0.5) / (between - upper)
        likely = part.counts.sum() * share
        return _windows(sample, part, _chances(part.counts[::-1], likely, _deviation(likely, share))[::-1])
    if rank > lower:
        part, likely = sample.part(sample.lowest, low), (rank - lower - 0.5) * sample.share
        return _windows(sample, part, _chances(part.counts[::-1], likely, _deviation(likely, 0.0))[::-1])
    return _Guess(firsts, 1.0, sample)


def _deviation(likely: float, share: float) -> float:
    """Of how many of a sample are beyond an entry, `share` of all being so."""
    return WIDER * sqrt(likely * (1 - share)) + 1


def _chances(counts: Integers, likely: float, deviation: float) -> Doubles:
    """How likely each bin is to hold the entry that `likely` of the sample come before."""
    upto = np.append(0, np.cumsum(counts))
    return np.diff([erf((place - likely) / deviation / sqrt(2)) / 2 for place in upto])


def _windows(sample: Sample, part: Sample, chances: Doubles) -> _Guess:
    """The best two windows among the bins of `part`."""
    if not chances.size:
        return _Guess((part.lowest, part.lowest + WINDOW), 0.0, sample)
    pairs = [_peaks(chances), _run(chances)]
    covered = [sum(chances[max(first, 0) : max(first + WINDOW, 0)].sum() for first in pair) for pair in pairs]
    low, high = pairs[int(np.argmax(covered))]
    first = max(part.lowest + low, 0)
    return _Guess((first, max(part.lowest + high, first + WINDOW)), max(covered), sample)


def _peaks(chances: Doubles) -> tuple[int, int]:
    """Windows that begin with the likeliest bins: in deltas of bfloat16 each is one magnitude."""
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
