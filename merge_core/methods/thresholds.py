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
    BLOCK,
    NOTHING,
    UNCUT,
    Found,
    chunk_cuts,
    magnitude_histogram,
    magnitudes_of,
    pick_bins,
    pick_blocks,
    tie_counts,
)
from kernels.stored_rows import StoredRows
from merge_core.methods.contract import (
    Blocks,
    Both,
    Counts,
    Entries,
    Partial,
    Rows,
    Surveyed,
    Weights,
    refuse_not_finite,
)

ROUNDS = 3
"""Two that find the magnitudes, and one that finds where ties are cut off, for a search that `splits_ties`."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of one threshold of each row: its magnitude, and where ties at it are cut off.

    `ties` has, for each row, the flat index at which the block begins that holds its last tie, as its bins.
    """

    top: Found
    low: Found | None = None
    magnitudes: Weights = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    ties: Found | None = None
    fixed: NDArray[np.int64] | None = None
    """The cuts, where they are known without a survey."""

    @property
    def splits_ties(self) -> bool:
        """Whether of the entries equal to some threshold a part is kept, and it is not known yet which."""
        return (
            self.ties is None
            and self.fixed is None
            and self.low is not None
            and bool((self.low.ranks < self.low.held).any())
        )

    def cuts(self, rows: Rows | StoredRows, start: int) -> NDArray[np.int64]:
        """The flat index of the last tie kept in each row, as far as this chunk can tell; UNCUT where all are."""
        if self.fixed is not None:
            return self.fixed
        if self.ties is None:
            return np.full(rows.shape[0], UNCUT, dtype=np.int64)
        return chunk_cuts(rows, start, self.magnitudes, self.ties.bins, self.ties.ranks)


def first_entries(inputs: Sequence[Entries], kept: int) -> Search:
    """The search whose `kept` largest of entries that all have one magnitude are the first of them."""
    none = Found(*(np.zeros(len(inputs), dtype=np.int64) for _ in range(3)))
    cuts = [UNCUT if entry.count <= kept else entry.place_of(kept) if kept else -1 for entry in inputs]
    magnitudes = [0.0 if entry.count <= kept else entry.value if kept else np.inf for entry in inputs]
    return Search(none, none, np.array(magnitudes, dtype=np.float32), fixed=np.array(cuts, dtype=np.int64))


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
    """The ties of each row at each threshold, the index that a block begins at, and a running sum over one row."""
    return np.dtype(np.int64).itemsize * (rows * searches + 2)


def survey_first(rows: Rows | StoredRows, tensor: str, so_far: Counts | None) -> Counts:
    """What round 0 counts in a chunk. Raises FileError where a row has NaN or infinity."""
    histogram = magnitude_histogram(rows, 0, out=None if so_far is None else so_far.values)
    refuse_not_finite(histogram, tensor)
    return Counts(histogram)


def survey_low(rows: Rows | StoredRows, searches: Searches, so_far: Counts | None) -> Counts:
    """What round 1 counts in a chunk where ties are not cut off; `searches` is what round 0 concluded."""
    counts = _low_counts(rows, searches, so_far)
    for search, its_counts in zip(searches, counts.values, strict=True):
        magnitude_histogram(rows, 1, search.top.bins, its_counts)
    return counts


def survey_next(
    round_: int, rows: Rows | StoredRows, start: int, searches: Searches, so_far: Counts | None
) -> Blocks | Both:
    """What round 1 or 2 counts in a chunk; `searches` is what the rounds before concluded."""
    if round_ == 2:
        return _located([tie_counts(rows, search.magnitudes) for search in searches], start)
    counts, (models, size) = _low_counts(rows, searches, so_far), rows.shape
    edges = [np.empty((-(-size // BLOCK), models), dtype=np.int64) for _ in searches]
    for search, its_counts, its_edges in zip(searches, counts.values, edges, strict=True):
        magnitude_histogram(rows, 1, search.top.bins, its_counts, its_edges)
    return Both(counts.values, _located(edges, start))


def _low_counts(rows: Rows | StoredRows, searches: Searches, so_far: Counts | None) -> Counts:
    return so_far or Counts(np.zeros((len(searches), rows.shape[0], BINS[1]), dtype=np.int64))


def _located(counts: Sequence[NDArray[np.int64]], start: int) -> Blocks:
    """Those of each search [blocks, rows] side by side, and after them the flat index at which each block begins."""
    firsts = np.arange(len(counts[0]), dtype=np.int64)[:, None] * BLOCK + start
    return Blocks(np.concatenate([*counts, firsts], axis=1))


def begin(total: Partial, ranks: Sequence[NDArray[np.int64]]) -> Searches:
    """After round 0: one search for each array of `ranks`, which has a rank for each row; 0 keeps nothing."""
    assert isinstance(total, Counts), "round 0 counts"
    return tuple(Search(pick_bins(total.values, its_ranks)) for its_ranks in ranks)


def proceed(total: Partial, over: Surveyed, searches: Searches) -> Searches:
    """After round 1, which nearly always tells where ties are cut off as well, or 2.

    After a `survey_low` all ties stay.
    """
    if isinstance(total, Blocks):
        return _with_ties(searches, total, over)
    searches = tuple(map(_with_magnitudes, searches, total.values))
    return _with_ties(searches, total.blocks, over) if isinstance(total, Both) and _edges_tell(searches) else searches


def _with_magnitudes(search: Search, counts: NDArray[np.int64]) -> Search:
    low = pick_bins(counts, search.top.ranks)
    return replace(search, low=low, magnitudes=magnitudes_of(search.top.bins, low.bins))


def _edges_tell(searches: Searches) -> bool:
    """Whether some ties are split, and all that are have the smallest magnitude of their bin."""
    lows = [search.low for search in searches if search.splits_ties and search.low is not None]
    return bool(lows) and all(((low.bins == 0) | (low.ranks == low.held)).all() for low in lows)


def _with_ties(searches: Searches, total: Blocks, over: Surveyed) -> Searches:
    counts, firsts = np.split(total.values[:, :-1], len(searches), axis=1), total.values[:, -1]
    return tuple(
        replace(search, ties=_ties(search, part, firsts, over.blocks)) if search.splits_ties else search
        for search, part in zip(searches, counts, strict=True)
    )


def _ties(search: Search, counts: NDArray[np.int64], firsts: NDArray[np.int64], own: range) -> Found:
    """Where, in the tensor whose blocks are `own`, the last ties lie: before its start and after its end count too."""
    assert search.low is not None, "ties are counted once the magnitudes are known"
    found = pick_blocks(counts, search.low.ranks)
    within = firsts[np.clip(found.bins, own.start, max(own.stop - 1, own.start))]
    firsts_found = np.where(found.bins < own.start, NOTHING, np.where(found.bins < own.stop, within, UNCUT))
    is_whole = search.low.ranks == search.low.held
    return found._replace(bins=np.where(is_whole, UNCUT, firsts_found))
