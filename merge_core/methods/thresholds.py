"""The search for magnitudes of given ranks, round by round: what every trim has in common.

A method that trims has ROUNDS surveys, or more of its own after them, and leaves them to `wants`, `survey` and
`conclude`. Its state keeps a `Search` for each threshold that every row has: one for a trim of the smallest, two for
a band. A sample of a large tensor nearly always tells where to count; where it misleads, two more rounds look at all.
Both ways find the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import ceil, floor, prod
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.kth_magnitude import (
    ABOVE,
    BETWEEN,
    BINS,
    BLOCK,
    INSIDE,
    NEAR_COUNTS,
    NOT_FINITE,
    NOTHING,
    UNCUT,
    Found,
    Near,
    chunk_cuts,
    guess,
    magnitude_histogram,
    magnitudes_of,
    near_histogram,
    pick_bins,
    pick_blocks,
    sample_histogram,
    tie_counts,
)
from kernels.stored_rows import StoredRows
from merge_core.methods.contract import (
    Blocks,
    Both,
    Chunk,
    Counts,
    Entries,
    Partial,
    Rows,
    Surveyed,
    Weights,
    refuse_infinite_counts,
    refuse_not_finite,
)

GUESS, NEAR, TOP, LOW, TIES = range(5)
"""A sample, a count around what it says; both rounds of an exact search; where ties are cut off."""
ROUNDS = 5

SAMPLED_FROM = 1 << 22
"""Elements of a tensor whose sample is large enough to tell much."""


@dataclass(frozen=True, slots=True)
class Search:
    """What is known of one threshold of each row: its magnitude, and where ties at it are cut off.

    `ties` has, for each row, the flat index at which the block begins that holds its last tie, as its bins.
    """

    top: Found | None = None
    low: Found | None = None
    magnitudes: Weights = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    ties: Found | None = None
    fixed: NDArray[np.int64] | None = None
    """The cuts, where they are known without a survey."""
    near: Near | None = None
    """Where a sample says that the magnitudes are."""

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
Scope = Literal["tensor", "model"]


def at_least(share: float, size: int) -> int:
    """⌈share · size⌉, at most `size`."""
    # The product is rounded first: 0.07 · 100 is 7.000000000000001 in binary and means 7.
    return min(ceil(round(share * size, 6)), size)


def at_most(share: float, size: int) -> int:
    """⌊share · size⌋."""
    return floor(round(share * size, 6))


def survey_bytes(rows: int) -> int:
    """Counts under way, others waiting to be added, and the running sum that is made of their total."""
    return 3 * max(BINS[0], NEAR_COUNTS) * np.dtype(np.int64).itemsize * rows


def block_bytes(rows: int, searches: int = 1) -> int:
    """The ties of each row at each threshold, the index that a block begins at, and a running sum over one row."""
    return np.dtype(np.int64).itemsize * (2 * rows * searches + 2)


def wants(round_: int, searches: Searches | None) -> bool:
    """Whether a round has anything left to find."""
    if not searches:
        return round_ == GUESS
    if round_ == TIES:
        return any(search.splits_ties for search in searches)
    first = searches[0]
    has_begun = first.top is not None or (round_ == NEAR and first.near is None)
    return first.low is None and (round_ == LOW or (round_ in (NEAR, TOP) and not has_begun))


def survey(
    round_: int, chunk: Chunk, searches: Searches | None, scope: Scope, so_far: Counts | None
) -> Counts | Blocks | Both:
    """What a round counts in a chunk. Raises FileError where a row has NaN or infinity."""
    if round_ in (GUESS, TOP):
        is_sampled = round_ == GUESS and (scope == "model" or prod(chunk.shape) >= SAMPLED_FROM)
        return _survey_sample(chunk, so_far) if is_sampled else survey_first(chunk.source, chunk.tensor, so_far)
    assert searches, "later rounds know what the first has found"
    if round_ == NEAR:
        return _survey_near(chunk, searches, so_far)
    if round_ == LOW:
        return _survey_low(chunk, searches, so_far)
    return _located([tie_counts(chunk.source, search.magnitudes) for search in searches], chunk.start)


def conclude(
    round_: int, total: Partial, over: Surveyed, searches: Searches | None, ranks: Sequence[NDArray[np.int64]]
) -> Searches:
    """What is known after a round; `ranks` has an array for each search, with a rank for each row."""
    if round_ == GUESS and total.values[0].sum() < over.size:
        nears = [guess(total.values, its_ranks, over.size) for its_ranks in ranks]
        return tuple(Search(near=None if None in nears else near) for near in nears)
    if round_ in (GUESS, TOP):
        return begin(total, ranks)
    assert searches, "later rounds know what the first has found"
    return _proceed_near(total, over, searches, ranks) if round_ == NEAR else proceed(total, over, searches)


def with_all_ties(searches: Searches) -> Searches:
    """The same, none of what equals the threshold cut off."""
    return tuple(replace(search, ties=None) for search in searches)


def survey_first(rows: Rows | StoredRows, tensor: str, so_far: Counts | None) -> Counts:
    """What an exact search counts first in a chunk. Raises FileError where a row has NaN or infinity."""
    histogram = magnitude_histogram(rows, 0, out=None if so_far is None else so_far.values)
    refuse_not_finite(histogram, tensor)
    return Counts(histogram)


def survey_low(rows: Rows | StoredRows, searches: Searches, so_far: Counts | None) -> Counts:
    """What an exact search counts then, where ties are not cut off; `searches` is what it `begin`s with."""
    counts = _low_counts(rows, searches, so_far)
    for search, its_counts in zip(searches, counts.values, strict=True):
        magnitude_histogram(rows, 1, begun(search).bins, its_counts)
    return counts


def _survey_sample(chunk: Chunk, so_far: Counts | None) -> Counts:
    return Counts(sample_histogram(chunk.source, chunk.start, None if so_far is None else so_far.values))


def _survey_near(chunk: Chunk, searches: Searches, so_far: Counts | None) -> Both:
    models, size = chunk.source.shape
    shape = len(searches), models, NEAR_COUNTS
    counts = np.zeros(shape, dtype=np.int64) if so_far is None else so_far.values
    edges = [np.empty((-(-size // BLOCK), 2 * models), dtype=np.int64) for _ in searches]
    for search, its_counts, its_edges in zip(searches, counts, edges, strict=True):
        near_histogram(chunk.source, _near(search), its_counts, its_edges)
    refuse_infinite_counts(counts[0, :, NOT_FINITE], chunk.tensor)
    return Both(counts, _located(edges, chunk.start))


def _survey_low(chunk: Chunk, searches: Searches, so_far: Counts | None) -> Both:
    rows, counts = chunk.source, _low_counts(chunk.source, searches, so_far)
    edges = [np.empty((-(-rows.shape[1] // BLOCK), rows.shape[0]), dtype=np.int64) for _ in searches]
    for search, its_counts, its_edges in zip(searches, counts.values, edges, strict=True):
        magnitude_histogram(rows, 1, begun(search).bins, its_counts, its_edges)
    return Both(counts.values, _located(edges, chunk.start))


def _low_counts(rows: Rows | StoredRows, searches: Searches, so_far: Counts | None) -> Counts:
    return so_far or Counts(np.zeros((len(searches), rows.shape[0], BINS[1]), dtype=np.int64))


def _located(counts: Sequence[NDArray[np.int64]], start: int) -> Blocks:
    """Those of each search [blocks, rows] side by side, and after them the flat index at which each block begins."""
    firsts = np.arange(len(counts[0]), dtype=np.int64)[:, None] * BLOCK + start
    return Blocks(np.concatenate([*counts, firsts], axis=1))


def begin(total: Partial, ranks: Sequence[NDArray[np.int64]]) -> Searches:
    """After an exact search's first round: one search for each array of `ranks`; a rank of 0 keeps nothing."""
    assert isinstance(total, Counts), "the first round counts"
    return tuple(Search(pick_bins(total.values, its_ranks)) for its_ranks in ranks)


def proceed(total: Partial, over: Surveyed, searches: Searches) -> Searches:
    """After an exact search's second round, which nearly always tells where ties are cut off as well, or that of TIES.

    After a `survey_low` all ties stay.
    """
    if isinstance(total, Blocks):
        return _with_ties(searches, total, over)
    searches = tuple(map(_with_magnitudes, searches, total.values))
    return _with_ties(searches, total.blocks, over) if isinstance(total, Both) and _edges_tell(searches) else searches


class _Ending(NamedTuple):
    """Where the searches of all rows end, `windows` being 1 for the upper one."""

    low: Found
    magnitudes: Weights
    windows: NDArray[np.int64]
    is_told: bool
    """Whether the places of all ties that are split have been counted."""


def _proceed_near(total: Partial, over: Surveyed, searches: Searches, ranks: Sequence[NDArray[np.int64]]) -> Searches:
    """The searches as they were, where a magnitude is not among those that were counted."""
    endings = [
        _ending(_near(search), counts, its_ranks, over.size)
        for search, counts, its_ranks in zip(searches, total.values, ranks, strict=True)
    ]
    known = [ending for ending in endings if ending is not None]
    if len(known) < len(endings):
        return searches
    found = tuple(
        replace(search, low=ending.low, magnitudes=ending.magnitudes)
        for search, ending in zip(searches, known, strict=True)
    )
    if not isinstance(total, Both) or not all(ending.is_told for ending in known):
        return found
    return _with_ties(found, _chosen(total.blocks, known), over)


def _ending(near: Near, counts: NDArray[np.int64], ranks: NDArray[np.int64], size: int) -> _Ending | None:
    """None where a rank lies outside both windows; of all entries, or none, there is nothing to find."""
    is_sought, inside = (ranks > 0) & (ranks < size), counts[:, INSIDE:].reshape(len(ranks), 2, -1)
    held, of_upper = inside.sum(axis=2), ranks - counts[:, ABOVE]
    is_upper = of_upper <= held[:, 1]
    within = np.where(is_upper, of_upper, of_upper - held[:, 1] - counts[:, BETWEEN])
    rows, windows = np.arange(len(ranks)), is_upper.astype(np.int64)
    if (is_sought & ((within < 1) | (within > held[rows, windows]))).any():
        return None
    found = pick_bins(inside[rows, windows], np.where(is_sought, within, 0))
    bits = (near.firsts[rows, windows] << 15) + found.bins
    magnitudes = np.where(is_sought, bits, 0).astype(np.uint32).view(np.float32)
    magnitudes[ranks <= 0] = np.inf
    low = Found(*(np.where(ranks >= size, 1, part) for part in found))
    is_told = (low.bins == 0) | (low.ranks == low.held)
    return _Ending(low, magnitudes, windows, bool(is_told.all()))


def _chosen(edges: Blocks, endings: Sequence[_Ending]) -> Blocks:
    """Of the blocks' counts for both windows those of the window in which each search has ended."""
    counts = np.split(edges.values[:, :-1], len(endings), axis=1)
    columns = [2 * np.arange(len(ending.windows)) + ending.windows for ending in endings]
    chosen = [own[:, place] for own, place in zip(counts, columns, strict=True)]
    return Blocks(np.concatenate([*chosen, edges.values[:, -1:]], axis=1))


def _near(search: Search) -> Near:
    assert search.near is not None, "a sample has told where to look"
    return search.near


def _with_magnitudes(search: Search, counts: NDArray[np.int64]) -> Search:
    top = begun(search)
    low = pick_bins(counts, top.ranks)
    return replace(search, low=low, magnitudes=magnitudes_of(top.bins, low.bins))


def begun(search: Search) -> Found:
    """The bins in which an exact search goes on."""
    assert search.top is not None, "an exact search has begun"
    return search.top


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
