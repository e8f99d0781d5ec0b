"""The search that a sample directs: one pass over a 32nd of a tensor, one over the whole."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.kth_magnitude import (
    ABOVE,
    BETWEEN,
    BLOCK,
    INSIDE,
    NEAR_COUNTS,
    NOT_FINITE,
    Found,
    Near,
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
    edges = [np.empty((-(-size // BLOCK), 2 * models), dtype=np.int64) for _ in searches]
    for search, its_counts, its_edges in zip(searches, counts, edges, strict=True):
        near_histogram(chunk.source, _near(search), its_counts, its_edges)
    refuse_infinite_counts(counts[0, :, NOT_FINITE], chunk.tensor)
    return Both(counts, located(edges, chunk.start))


class _Ending(NamedTuple):
    """Where the searches of all rows end, `windows` being 1 for the upper one."""

    low: Found
    magnitudes: Weights
    windows: NDArray[np.int64]
    is_told: bool
    """Whether the places of all ties that are split have been counted."""


def proceed_near(total: Partial, over: Surveyed, searches: Searches, ranks: Sequence[NDArray[np.int64]]) -> Searches:
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
    return with_ties(found, total.blocks, over, _columns(known))


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


def _columns(endings: Sequence[_Ending]) -> list[list[int]]:
    """Of the blocks' counts for both windows those of the window in which each search has ended."""
    rows = len(endings[0].windows)
    return [
        [2 * (rows * position + row) + int(window) for row, window in enumerate(ending.windows)]
        for position, ending in enumerate(endings)
    ]


def _near(search: Search) -> Near:
    assert search.near is not None, "a sample has told where to look"
    return search.near
