"""The search for magnitudes of given ranks, round by round: what every trim has in common.

A method that trims has ROUNDS surveys, or more of its own after them. Its state keeps a `Search` for each
threshold that every row has: one for a trim of the smallest, two for a band.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor

import numpy as np
from numpy.typing import NDArray

from kernels.kth_magnitude import (
    BINS,
    UNCUT,
    Found,
    chunk_cuts,
    magnitude_histogram,
    magnitudes_of,
    pick_bins,
    pick_blocks,
    tie_counts,
)
from merge_core.methods.contract import Blocks, Counts, Partial, Rows, Surveyed, Weights, refuse_not_finite

ROUNDS = 3
"""Two that find the magnitudes, and one that finds where ties are cut off, for a search that `splits_ties`."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of one threshold of each row: its magnitude, and where ties at it are cut off."""

    top: Found
    low: Found | None = None
    magnitudes: Weights = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    ties: Found | None = None

    @property
    def splits_ties(self) -> bool:
        """Whether of the entries equal to some threshold a part is kept."""
        return self.low is not None and bool((self.low.ranks < self.low.held).any())

    def cuts(self, rows: Rows, start: int) -> NDArray[np.int64]:
        """The flat index of the last tie kept in each row, as far as this chunk can tell; UNCUT without a round 2."""
        if self.ties is None:
            return np.full(len(rows), UNCUT, dtype=np.int64)
        return chunk_cuts(rows, start, self.magnitudes, self.ties.bins, self.ties.ranks)


def everything(rows: int) -> Search:
    """The search that keeps every entry of each row."""
    none = Found(*(np.zeros(rows, dtype=np.int64) for _ in range(3)))
    return Search(none, none, np.zeros(rows, dtype=np.float32))


Searches = tuple[Search, ...]


def at_least(share: float, size: int) -> int:
    """⌈share · size⌉, at most `size`."""
    # The product is rounded first: 0.07 · 100 is 7.000000000000001 in binary and means 7.
    return min(ceil(round(share * size, 6)), size)


def at_most(share: float, size: int) -> int:
    """⌊share · size⌋."""
    return floor(round(share * size, 6))


def survey_bytes(rows: int) -> int:
    """A histogram under way, one waiting to be added, and the running sum that is made of their total."""
    return 3 * BINS[0] * np.dtype(np.int64).itemsize * rows


def block_bytes(rows: int, searches: int = 1) -> int:
    """The ties of each row at each threshold, which are there twice, as is half of the running sum over one."""
    return (2 * searches + 1) * np.dtype(np.int64).itemsize // 2 * rows


def survey_first(rows: Rows, tensor: str, so_far: Counts | None) -> Counts:
    """What round 0 counts in a chunk. Raises FileError where a row has NaN or infinity."""
    histogram = magnitude_histogram(rows, 0, out=None if so_far is None else so_far.values)
    refuse_not_finite(histogram, tensor)
    return Counts(histogram)


def survey_next(round_: int, rows: Rows, searches: Searches, so_far: Counts | None) -> Partial:
    """What round 1 or 2 counts in a chunk; `searches` is what the rounds before concluded."""
    counted = None if so_far is None else so_far.values
    if round_ == 2:
        return Blocks(np.concatenate([tie_counts(rows, search.magnitudes) for search in searches], axis=1))
    counts = np.zeros((len(searches), len(rows), BINS[1]), dtype=np.int64) if counted is None else counted
    for search, its_counts in zip(searches, counts, strict=True):
        magnitude_histogram(rows, 1, search.top.bins, out=its_counts)
    return Counts(counts)


def begin(total: Partial, ranks: Sequence[NDArray[np.int64]]) -> Searches:
    """After round 0: one search for each array of `ranks`, which has a rank for each row; 0 keeps nothing."""
    return tuple(Search(pick_bins(total.values, its_ranks)) for its_ranks in ranks)


def proceed(round_: int, total: Partial, over: Surveyed, searches: Searches) -> Searches:
    """After round 1 or 2."""
    if round_ == 1:
        return tuple(map(_with_magnitudes, searches, total.values))
    counts = np.split(total.values, len(searches), axis=1)
    return tuple(_with_ties(search, part, over.first_block) for search, part in zip(searches, counts, strict=True))


def _with_magnitudes(search: Search, counts: NDArray[np.int64]) -> Search:
    low = pick_bins(counts, search.top.ranks)
    return replace(search, low=low, magnitudes=magnitudes_of(search.top.bins, low.bins))


def _with_ties(search: Search, counts: NDArray[np.int64], first_block: int) -> Search:
    assert search.low is not None, "ties are counted once the magnitudes are known"
    found = pick_blocks(counts, search.low.ranks)
    return replace(search, ties=found._replace(bins=found.bins - first_block))
