"""SCE: select the elements in which models differ most, weigh models by their change there, erase minorities."""

from dataclasses import dataclass, replace
from math import prod
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kernels.all_finite import all_finite
from kernels.checks import Doubles
from kernels.gram import BLOCK, squares
from kernels.kth_magnitude import NOT_FINITE, UNCUT, pick_blocks
from kernels.selection import Beyond, selected_merge, squares_beyond
from kernels.spread import near_histogram, sample_histogram, spread
from kernels.stored_rows import StoredRows
from merge_core.methods import thresholds
from merge_core.methods.contract import (
    Blocks,
    Chunk,
    Counts,
    Method,
    Partial,
    Rows,
    Space,
    State,
    Surveyed,
    Weights,
    refuse_weights,
)
from merge_core.methods.finite import refuse_infinite_counts, refuse_infinite_rows, refuse_infinite_sums
from merge_core.methods.searches import Searches
from merge_core.methods.sparse_rows import ZERO_VOTE_SIGN, elect
from merge_core.methods.thresholds import at_least

SUMS, PART = thresholds.TIES, thresholds.ROUNDS
"""The rounds that add up the squares of what is selected: in all, and in the block in which ties are cut off."""

SPREADS_AT_ONCE = 1 << 18


@dataclass(frozen=True, slots=True)
class Selection:
    """The threshold of the spread, none where everything is selected; the last tie selected; each ingredient's share.

    `sums` are the squares so far where of a block's ties the first `ranks` are selected; it begins at `first`.
    """

    searches: Searches = ()
    cut: int = UNCUT
    shares: Weights | None = None
    sums: Doubles | None = None
    first: int = 0
    rank: int = 0


class Sce(Method):
    """Select, calculate, erase: W₀ + λ Σ s_t τ̂_t / Σ s_t over the τ̂_t that have the sign of Σ τ̂_t.

    Selected are the ⌈select_topk·n⌉ elements of a tensor with the largest variance over the ingredients (compared
    as float32 standard deviations; equal ones: lower index wins); elsewhere τ̂ = 0. s_t is proportional to Σ τ̂_t²,
    the shares of a tensor adding up to 1. Elements whose sum is zero stay as in the base, as do all with
    `select_topk` 0. Ingredients have no weights; one comes back as it is, if not by `select_topk` 0. mergekit takes
    ⌊select_topk·m⌋ of the m elements whose variance is not zero, calls a sum of zero positive, and gives equal shares
    where the mean squares add up to less than 1e-6, which small fine-tunes do. Convention `mergekit` follows it in the
    first two. Wan et al., "FuseChat", 2024, https://arxiv.org/abs/2408.07990, section 3.2.
    """

    name: Literal["sce"] = "sce"
    select_topk: float = Field(default=1.0, ge=0.0, le=1.0)
    convention: Literal["stockpot", "mergekit"] = "stockpot"
    space: ClassVar[Space] = "delta"
    rounds: ClassVar[int] = PART + 1
    scans: ClassVar[bool] = True
    formula: ClassVar[str] = "W₀ + λ Σ s_t τ̂_t / Σ s_t over those with sign(Σ τ̂_t), s_t ∝ ‖τ̂_t‖²"
    source: ClassVar[str] = "Wan et al. 2024, FuseChat, https://arxiv.org/abs/2408.07990"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def wants_round(self, round_: int, state: State) -> bool:
        if round_ == PART:
            return state is not None and state.shares is None
        searches = None if state is None else state.searches
        return round_ == SUMS or (self.select_topk < 1.0 and thresholds.wants(round_, searches))

    def looks_at(self, round_: int, size: int, state: State) -> range:
        return range(state.first, min(state.first + BLOCK, size)) if round_ == PART else range(size)

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(1)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        if round_ == PART:
            return _part(chunk, state)
        if round_ == SUMS:
            return _sums(chunk, state)
        is_large = self.convention == "stockpot" and prod(chunk.shape) >= thresholds.SAMPLED_FROM
        counts = _spreads(round_, is_large, chunk, state, None if so_far is None else so_far.values)
        return Counts(counts)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == PART:
            (row,) = total.values
            return replace(state, cut=int(row[-1]), shares=_shares(state.sums + row[:-1]))
        if round_ == SUMS:
            return _with_sums(state or Selection(), total.values, len(weights), over.tensor)
        follows_mergekit = self.convention == "mergekit" and round_ == thresholds.GUESS
        unchanged = int(total.values[0, 0]) if follows_mergekit else None
        # One input does not vary, and comes back whole.
        is_alone = len(weights) == 1 and self.convention == "stockpot" and self.select_topk > 0
        ranks = [np.array([over.size if is_alone else self._selected(over.size, unchanged)])]
        searches = None if state is None else state.searches
        return Selection(thresholds.conclude(round_, total, over, searches, ranks))

    def _selected(self, size: int, unchanged: int | None) -> int:
        """How many elements are selected; mergekit leaves out those that do not vary, which its first round counts."""
        return at_least(self.select_topk, size) if unchanged is None else int((size - unchanged) * self.select_topk)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        zero_vote, beyond = ZERO_VOTE_SIGN[self.convention], _beyond(state)
        if beyond is None:
            return elect(chunk.source, state.shares, "mean", "unweighted", zero_vote)
        return selected_merge(chunk.source, beyond, chunk.start, state.shares, "mean", "unweighted", zero_vote)


def _beyond(state: Selection) -> Beyond | None:
    """Which elements are selected; None for all."""
    return Beyond(state.searches[0].magnitudes[0], state.cut) if state.searches else None


def _spreads(
    round_: int, is_large: bool, chunk: Chunk, state: State, so_far: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Counts of standard deviations. Raises FileError where an ingredient has NaN or infinity."""
    if round_ == thresholds.GUESS and is_large:
        return sample_histogram(chunk.source, chunk.start, so_far)
    if round_ in (thresholds.NEAR, thresholds.AGAIN):
        return _near(chunk, state, so_far)
    counted = None if so_far is None else Counts(so_far)
    for rows in _parts(chunk.source):
        counted = _exactly(round_, rows, chunk, state, counted)
    assert counted is not None, "a chunk has elements"
    return counted.values


def _parts(rows: Rows | StoredRows) -> list[Rows | StoredRows]:
    """Of stored rows so many elements at a time that their spreads take little memory."""
    if not isinstance(rows, StoredRows):
        return [rows]
    size = rows.shape[1]
    return [rows.run(start, min(SPREADS_AT_ONCE, size - start)) for start in range(0, size, SPREADS_AT_ONCE)]


def _exactly(round_: int, rows: Rows | StoredRows, chunk: Chunk, state: State, so_far: Counts | None) -> Counts:
    """A round of the exact search among all spreads."""
    apart = spread(rows)[None]
    if round_ == thresholds.LOW:
        return thresholds.survey_low(apart, state.searches, so_far)
    if not all_finite(apart[0], "float32"):
        refuse_infinite_rows(chunk.rows, chunk.tensor)
    return thresholds.survey_first(apart, chunk.tensor, so_far)


def _near(chunk: Chunk, state: State, so_far: NDArray[np.int64] | None) -> NDArray[np.int64]:
    """[searches, rows, magnitudes], as `thresholds` wants it."""
    counts = near_histogram(chunk.source, state.searches[0].near, None if so_far is None else so_far[0])
    if counts[0, NOT_FINITE]:
        refuse_infinite_rows(chunk.rows, chunk.tensor)
        refuse_infinite_counts(counts[:, NOT_FINITE], chunk.tensor)  # of finite rows whose spread is none
    return counts[None]


def _sums(chunk: Chunk, state: Selection | None) -> Blocks:
    """Squares of what is beyond the threshold; of what is at it, with their number; and where each block begins."""
    if state is None:
        return Blocks(squares(chunk.source))
    sums = squares_beyond(chunk.source, state.searches[0].magnitudes[0])
    firsts = chunk.start + BLOCK * np.arange(len(sums), dtype=np.float64)
    return Blocks(np.concatenate([sums, firsts[:, None]], axis=1))


def _with_sums(state: Selection, sums: Doubles, count: int, tensor: str) -> Selection:
    refuse_infinite_sums(sums[:, :count], tensor)
    if not state.searches:
        return replace(state, shares=_shares(sums.sum(axis=0)))
    (search,) = state.searches
    assert search.low is not None, "sums are taken once the magnitude is known"
    beyond, ties = sums[:, :count].sum(axis=0), sums[:, count : 2 * count]
    found = pick_blocks(sums[:, 2 * count, None].astype(np.int64), search.low.ranks)
    block, rank = int(found.bins[0]), int(found.ranks[0])
    if rank == 0 or not search.splits_ties:
        return replace(state, shares=_shares(beyond + (ties.sum(axis=0) if search.low.ranks[0] else 0.0)))
    before = beyond + ties[:block].sum(axis=0)
    return replace(state, sums=before, first=int(sums[block, -1]), rank=rank)


def _part(chunk: Chunk, state: Selection) -> Blocks:
    """The squares of those ties of a block that are selected, and the flat index of the last."""
    is_tie = spread(chunk.source) == state.searches[0].magnitudes[0]
    places = np.flatnonzero(is_tie)[: state.rank]
    ties = chunk.rows[:, places].astype(np.float64)
    # One by one, in order, whatever numpy's sums do on this machine.
    sums = np.add.accumulate(ties * ties, axis=1)[:, -1]
    return Blocks(np.array([[*sums, chunk.start + places[-1]]]))


def _shares(squares: Doubles) -> Weights:
    """Each ingredient's part of the sum of its squares, none where nothing has changed."""
    shares: Weights = (squares / (squares.sum() or 1.0)).astype(np.float32)
    return shares
