"""The search for magnitudes of given ranks, round by round: what every trim has in common.

A method that trims has ROUNDS surveys, or more of its own after them, and leaves them to `wants`, `survey` and
`conclude`. Its state keeps a `Search` for each threshold that every row has: one for a trim of the smallest, two for
a band. A sample of a large tensor mostly tells where to count, and where it misleads, the count and the sample tell
nearly always; where these do too, two more rounds look at all. All ways find the same.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor, prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.kth_magnitude import (
    BINS,
    BLOCK,
    NEAR_COUNTS,
    STARTS,
    Found,
    guess,
    magnitude_histogram,
    magnitudes_of,
    pick_bins,
    tie_counts,
)
from kernels.stored_rows import StoredRows
from merge_core.methods.contract import Blocks, Both, Chunk, Counts, Partial, Rows, Surveyed
from merge_core.methods.finite import refuse_not_finite
from merge_core.methods.near_search import proceed_near, survey_near, survey_sample
from merge_core.methods.searches import NUMBER, Search, Searches, located, with_ties

GUESS, NEAR, AGAIN, TOP, LOW, TIES = range(6)
"""A sample, a count around what it says, one around what that says; both rounds of an exact search; where ties are
cut off."""
ROUNDS = 6

SAMPLED_FROM = 1 << 22
"""Elements of a tensor whose sample is large enough to tell much."""


Scope = Literal["tensor", "model"]


def at_least(share: float, size: int) -> int:
    """⌈share · size⌉, at most `size`."""
    # The product is rounded first: 0.07 · 100 is 7.000000000000001 in binary and means 7.
    return min(max(ceil(round(share * size, 6)), int(share * size > 0)), size)


def at_most(share: float, size: int) -> int:
    """⌊share · size⌋."""
    return floor(round(share * size, 6))


def survey_bytes(rows: int, searches: int = 1) -> int:
    """Counts under way, others waiting to be added, and the running sum that is made of their total."""
    return 3 * max(BINS[0], NEAR_COUNTS * searches) * np.dtype(np.int64).itemsize * rows


def block_bytes(rows: int, searches: int = 1) -> int:
    """Ties of each row at each threshold in every bin, the number of the block, and a running sum."""
    return np.dtype(np.uint16).itemsize * (STARTS * rows * searches + NUMBER) + np.dtype(np.int64).itemsize


def wants(round_: int, searches: Searches | None) -> bool:
    """Whether a round has anything left to find."""
    if not searches:
        return round_ == GUESS
    if round_ == TIES:
        return any(search.splits_ties for search in searches)
    first = searches[0]
    has_begun = first.top is not None or (round_ in (NEAR, AGAIN) and first.near is None)
    return first.low is None and (round_ == LOW or not has_begun)


def survey(
    round_: int, chunk: Chunk, searches: Searches | None, scope: Scope, so_far: Counts | None
) -> Counts | Blocks | Both:
    """What a round counts in a chunk. Raises FileError where a row has NaN or infinity."""
    if round_ in (GUESS, TOP):
        is_sampled = round_ == GUESS and (scope == "model" or prod(chunk.shape) >= SAMPLED_FROM)
        return survey_sample(chunk, so_far) if is_sampled else survey_first(chunk.source, chunk.tensor, so_far)
    assert searches, "later rounds know what the first has found"
    if round_ in (NEAR, AGAIN):
        return survey_near(chunk, searches, so_far)
    if round_ == LOW:
        return _survey_low(chunk, searches, so_far)
    return located([tie_counts(chunk.source, search.magnitudes) for search in searches], chunk.start)


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
    if round_ in (NEAR, AGAIN):
        return proceed_near(total, over, searches, ranks)
    return proceed(total, over, searches)


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


def _survey_low(chunk: Chunk, searches: Searches, so_far: Counts | None) -> Both:
    rows, counts = chunk.source, _low_counts(chunk.source, searches, so_far)
    edges = [np.empty((-(-rows.shape[1] // BLOCK), rows.shape[0]), dtype=np.int64) for _ in searches]
    for search, its_counts, its_edges in zip(searches, counts.values, edges, strict=True):
        magnitude_histogram(rows, 1, begun(search).bins, its_counts, its_edges)
    return Both(counts.values, located(edges, chunk.start))


def _low_counts(rows: Rows | StoredRows, searches: Searches, so_far: Counts | None) -> Counts:
    return so_far or Counts(np.zeros((len(searches), rows.shape[0], BINS[1]), dtype=np.int64))


def begin(total: Partial, ranks: Sequence[NDArray[np.int64]]) -> Searches:
    """After an exact search's first round: one search for each array of `ranks`; a rank of 0 keeps nothing."""
    assert isinstance(total, Counts), "the first round counts"
    return tuple(Search(pick_bins(total.values, its_ranks)) for its_ranks in ranks)


def proceed(total: Partial, over: Surveyed, searches: Searches) -> Searches:
    """After an exact search's second round, which nearly always tells where ties are cut off as well, or that of TIES.

    After a `survey_low` all ties stay.
    """
    if isinstance(total, Blocks):
        return with_ties(searches, total, over)
    searches = tuple(map(_with_magnitudes, searches, total.values))
    return with_ties(searches, total.blocks, over) if isinstance(total, Both) and _edges_tell(searches) else searches


def begun(search: Search) -> Found:
    """The bins in which an exact search goes on."""
    assert search.top is not None, "an exact search has begun"
    return search.top


def _with_magnitudes(search: Search, counts: NDArray[np.int64]) -> Search:
    top = begun(search)
    low = pick_bins(counts, top.ranks)
    return replace(search, low=low, magnitudes=magnitudes_of(top.bins, low.bins))


def _edges_tell(searches: Searches) -> bool:
    """Whether some ties are split, and all that are have the smallest magnitude of their bin."""
    lows = [search.low for search in searches if search.splits_ties and search.low is not None]
    return bool(lows) and all(((low.bins == 0) | (low.ranks == low.held)).all() for low in lows)
