"""SCE: select the elements in which models differ most, weigh models by their change there, erase minorities."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kernels.all_finite import all_finite
from kernels.gram import squares
from kernels.kth_magnitude import UNCUT, magnitude_histogram
from kernels.selection import Beyond, selected_merge, selected_squares
from kernels.spread import spread
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
    refuse_infinite_rows,
    refuse_infinite_sums,
    refuse_weights,
)
from merge_core.methods.sparse_rows import ZERO_VOTE_SIGN, elect
from merge_core.methods.thresholds import Searches, at_least

SUMS = thresholds.ROUNDS
"""The round that adds up the squares of what is selected."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The threshold of the spread, none where everything is selected; and each ingredient's share."""

    searches: Searches = ()
    shares: Weights | None = None


class Sce(Method):
    """Select, calculate, erase: W₀ + λ Σ s_t τ̂_t / Σ s_t over the τ̂_t that have the sign of Σ τ̂_t.

    Selected are the ⌈select_topk·n⌉ elements of a tensor with the largest variance over the ingredients (compared
    as float32 standard deviations; equal ones: lower index wins); elsewhere τ̂ = 0. s_t is proportional to Σ τ̂_t²,
    the shares of a tensor adding up to 1. Elements whose sum is zero stay as in the base, as do all with
    `select_topk` 0. Ingredients have no weights; one comes back as it is. mergekit takes ⌊select_topk·m⌋ of the m
    elements whose variance is not zero, calls a sum of zero positive, and gives equal shares where the mean squares
    add up to less than 1e-6, which small fine-tunes do. Convention `mergekit` follows it in the first two. Wan et al.,
    "FuseChat", 2024, https://arxiv.org/abs/2408.07990, section 3.2.
    """

    name: Literal["sce"] = "sce"
    select_topk: float = Field(default=1.0, ge=0.0, le=1.0)
    convention: Literal["stockpot", "mergekit"] = "stockpot"
    space: ClassVar[Space] = "delta"
    rounds: ClassVar[int] = thresholds.ROUNDS + 1
    formula: ClassVar[str] = "W₀ + λ Σ s_t τ̂_t / Σ s_t over those with sign(Σ τ̂_t), s_t ∝ ‖τ̂_t‖²"
    source: ClassVar[str] = "Wan et al. 2024, FuseChat, https://arxiv.org/abs/2408.07990"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def wants_round(self, round_: int, state: State) -> bool:
        if round_ == SUMS:
            return True
        return self.select_topk < 1.0 and (round_ < 2 or state.searches[0].splits_ties)

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(1)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        if round_ == SUMS:
            beyond, source = _beyond(chunk, state), chunk.source
            return Blocks(squares(source) if beyond is None else selected_squares(source, beyond, chunk.start))
        apart = spread(chunk.source)[None]
        if round_ == 0:
            if not all_finite(apart[0], "float32"):
                refuse_infinite_rows(chunk.rows, chunk.tensor)
            return Counts(magnitude_histogram(apart, 0, out=None if so_far is None else so_far.values))
        return thresholds.survey_next(round_, apart, chunk.start, state.searches, so_far)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == SUMS:
            refuse_infinite_sums(total.values, over.tensor)
            return Selection(() if state is None else state.searches, _shares(total.values))
        if round_ == 0:
            return Selection(thresholds.begin(total, [np.array([self._selected(total.values, over.size)])]))
        return replace(state, searches=thresholds.proceed(total, over, state.searches))

    def _selected(self, spreads: NDArray[np.int64], size: int) -> int:
        """How many elements are selected, from a histogram of their standard deviations."""
        if self.convention == "mergekit":
            return int((size - int(spreads[0, 0])) * self.select_topk)
        return at_least(self.select_topk, size)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        zero_vote, beyond = ZERO_VOTE_SIGN[self.convention], _beyond(chunk, state)
        if beyond is None:
            return elect(chunk.source, state.shares, "mean", "unweighted", zero_vote)
        return selected_merge(chunk.source, beyond, chunk.start, state.shares, "mean", "unweighted", zero_vote)


def _beyond(chunk: Chunk, state: Selection | None) -> Beyond | None:
    """Which elements of the chunk are selected; None for all."""
    if state is None or not state.searches:
        return None
    (search,) = state.searches
    if search.ties is None and search.fixed is None:
        return Beyond(search.magnitudes[0], UNCUT)
    (cut,) = search.cuts(spread(chunk.source)[None], chunk.start)
    return Beyond(search.magnitudes[0], int(cut))


def _shares(squares: NDArray[np.float64]) -> Weights:
    """Each ingredient's part of the sum of [blocks, ingredients], none where nothing has changed."""
    total = squares.sum(axis=0)
    shares: Weights = (total / (total.sum() or 1.0)).astype(np.float32)
    return shares
