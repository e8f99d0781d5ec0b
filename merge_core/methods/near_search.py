"""The search that a sample directs: one pass over a 32nd of a tensor, one over the whole, seldom a second."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

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
    STARTS,
    WINDOW,
    Found,
    Near,
    guess_again,
    near_histogram,
    pick_bins,
    sample_histogram,
)
from merge_core.methods.contract import Both, Chunk, Counts, Partial, Surveyed, Weights
from merge_core.methods.finite import refuse_infinite_counts
from merge_core.methods.searches import Search, Searches, located, with_ties


def survey_sample(chunk: Chunk, so_far: Counts | None) -> Counts:
    return Counts(sample_histogram(chunk.source, chunk.start, None if so_far is None else so_far.values))


def survey_near(chunk: Chunk, searches: Searches, so_far: Counts | None) -> Both:
    models, size = chunk.source.shape
    shape = len(searches), models, NEAR_COUNTS
    counts = np.zeros(shape, dtype=np.int64) if so_far is None else so_far.values
    edges = [np.empty((-(-size // BLOCK), models, STARTS), dtype=np.int64) for _ in searches]
    for search, its_counts, its_edges in zip(searches, counts, edges, strict=True):
        near_histogram(chunk.source, _near(search), its_counts, its_edges)
    refuse_infinite_counts(counts[0, :, NOT_FINITE], chunk.tensor)
    return Both(counts, located([of.reshape(len(of), -1) for of in edges], chunk.start))


class _Ending(NamedTuple):
    """Where the searches of all rows end: at one of a bin's magnitudes, `starts` telling which of the STARTS bins."""

    low: Found
    magnitudes: Weights
    starts: NDArray[np.int64]
    is_told: bool
    """Whether the places of all ties that are split have been counted."""


def proceed_near(total: Partial, over: Surveyed, searches: Searches, ranks: Sequence[NDArray[np.int64]]) -> Searches:
    """The searches with other windows, or none, where a magnitude is not among those that were counted."""
    endings = [
        _ending(_near(search), counts, its_ranks, over.size)
        for search, counts, its_ranks in zip(searches, total.values, ranks, strict=True)
    ]
    known = [ending for ending in endings if ending is not None]
    if len(known) < len(endings):
        return _again(total, searches, ranks)
    found = tuple(
        replace(search, near=None, low=ending.low, magnitudes=ending.magnitudes)
        for search, ending in zip(searches, known, strict=True)
    )
    if not isinstance(total, Both) or not all(ending.is_told for ending in known):
        return found
    return with_ties(found, total.blocks, over, _columns(known))


def _again(total: Partial, searches: Searches, ranks: Sequence[NDArray[np.int64]]) -> Searches:
    parts = [np.stack(_parts(counts), axis=1) for counts in total.values]
    nears = [guess_again(_near(search), *of) for search, *of in zip(searches, parts, ranks, strict=True)]
    return tuple(Search(near=None if None in nears else near) for near in nears)


def _parts(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
    """How many entries of each row are above both windows, in the upper, between them and in the lower."""
    lower, upper = counts[:, INSIDE:].reshape(len(counts), 2, -1).sum(axis=2).T
    return counts[:, ABOVE], upper, counts[:, BETWEEN], lower


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
    bins, magnitude = np.divmod(np.maximum(found.bins, 0), BINS[1])
    is_told = (magnitude == 0) | (low.ranks == low.held)
    return _Ending(low, magnitudes, WINDOW * windows + bins, bool(is_told.all()))


def _columns(endings: Sequence[_Ending]) -> list[list[int]]:
    """Of the blocks' counts for all bins those of the bin in which each search has ended."""
    rows = len(endings[0].starts)
    return [
        [STARTS * (rows * position + row) + int(start) for row, start in enumerate(ending.starts)]
        for position, ending in enumerate(endings)
    ]


def _near(search: Search) -> Near:
    assert search.near is not None, "a sample has told where to look"
    return search.near
