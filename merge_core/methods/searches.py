"""What is known of a threshold while it is searched for, and where ties at it are cut off."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.kth_magnitude import BLOCK, NOTHING, UNCUT, Found, Near, chunk_cuts, pick_blocks
from kernels.stored_rows import StoredRows
from merge_core.methods.contract import Blocks, Entries, Rows, Surveyed, Weights


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


Searches = tuple[Search, ...]

NUMBER = np.dtype(np.int64).itemsize // np.dtype(np.uint16).itemsize
"""Columns of a block's number."""


def first_entries(inputs: Sequence[Entries], kept: int) -> Search:
    """The search whose `kept` largest of entries that all have one magnitude are the first of them."""
    none = Found(*(np.zeros(len(inputs), dtype=np.int64) for _ in range(3)))
    cuts = [UNCUT if entry.count <= kept else entry.place_of(kept) if kept else -1 for entry in inputs]
    magnitudes = [0.0 if entry.count <= kept else entry.value if kept else np.inf for entry in inputs]
    return Search(none, none, np.array(magnitudes, dtype=np.float32), fixed=np.array(cuts, dtype=np.int64))


def with_all_ties(searches: Searches) -> Searches:
    """The same, none of what equals the threshold cut off."""
    return tuple(replace(search, ties=None) for search in searches)


def located(counts: Sequence[NDArray[np.int64]], start: int) -> Blocks:
    """Those of each search [blocks, rows] side by side, numbered as blocks of the tensor."""
    return numbered(np.concatenate(counts, axis=1), start // BLOCK)


def numbered(counts: NDArray[Any], first: int) -> Blocks:
    """Counts [blocks, columns] and after them, in NUMBER columns, each block's number, counted from `first` on.

    uint16: no block has more entries, and of a model there are many blocks.
    """
    numbers = np.arange(first, first + len(counts), dtype=np.int64)[:, None]
    return Blocks(np.concatenate([counts.astype(np.uint16), numbers.view(np.uint16)], axis=1))


def with_ties(
    searches: Searches, total: Blocks, over: Surveyed, columns: Sequence[Sequence[int]] | None = None
) -> Searches:
    """The searches with the blocks in which their ties are cut off; `columns` are those of each search's rows.

    Without them the counts of the rows lie side by side. Of a large model they take much memory: none is copied.
    """
    width = (total.values.shape[1] - NUMBER) // len(searches)
    columns = columns or [range(first, first + width) for first in range(0, width * len(searches), width)]
    return tuple(
        replace(search, ties=_ties(search, total.values, own, over.blocks)) if search.splits_ties else search
        for search, own in zip(searches, columns, strict=True)
    )


def _ties(search: Search, counts: NDArray[np.int64], columns: Sequence[int], own: range) -> Found:
    """Where, in the tensor whose blocks are `own`, the last ties lie: before its start and after its end count too."""
    assert search.low is not None, "ties are counted once the magnitudes are known"
    found = pick_blocks(counts, search.low.ranks, columns)
    places = np.clip(found.bins, own.start, max(own.stop - 1, own.start))
    within = np.ascontiguousarray(counts[places, -NUMBER:]).view(np.int64)[:, 0] * BLOCK
    firsts_found = np.where(found.bins < own.start, NOTHING, np.where(found.bins < own.stop, within, UNCUT))
    is_whole = search.low.ranks == search.low.held
    return found._replace(bins=np.where(is_whole, UNCUT, firsts_found))
