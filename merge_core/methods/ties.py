"""TIES: trim small changes, elect a sign for each entry, average the changes that agree."""

from dataclasses import dataclass, field, replace
from math import ceil
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

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
from kernels.trim_elect import Elect, How, sign_balance, trim_elect
from merge_core.methods.contract import (
    Blocks,
    Chunk,
    Counts,
    Method,
    Partial,
    Rows,
    State,
    Surveyed,
    Weights,
    refuse_not_finite,
)

Convention = Literal["stockpot", "original", "peft"]


@dataclass(frozen=True, slots=True)
class Trim:
    """What the surveys found: a threshold for each ingredient, and where ties at it are cut off."""

    top: Found
    low: Found | None = None
    magnitudes: Weights = field(default_factory=lambda: np.empty(0, dtype=np.float32))
    ties: Found | None = None
    majority: int = 0


class Ties(Method):
    """Trim each τ_t to its `density` share of largest entries, elect sign(Σ w_t τ̂_t), merge what agrees.

    `stockpot` keeps exactly ⌈density·n⌉ entries (equal magnitudes: lower index wins; density 0 keeps none), and
    an entry whose votes cancel stays as in the base. `aggregate` mean is Σ w_t τ̂_t / Σ |w_t| over the agreeing
    entries, sum leaves the division out, max takes the largest. `scope` model draws one threshold over all
    tensors that some ingredient changes. `original` follows the authors' code: int(density·n)+1 entries and all
    that equal the last, votes without weights, and the majority sign of the whole for votes that cancel. `peft`
    keeps int(density·n), lets + win a cancelled vote, and divides by the number that agree. Yadav et al.,
    "TIES-Merging", 2023, https://arxiv.org/abs/2306.01708, section 3.2.
    """

    name: Literal["ties"] = "ties"
    density: float = Field(default=1.0, ge=0.0, le=1.0)
    aggregate: Literal["mean", "sum", "max"] = "mean"
    scope: Literal["tensor", "model"] = "tensor"
    convention: Convention = "stockpot"
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    rounds: ClassVar[int] = 3
    formula: ClassVar[str] = "W₀ + λ mean of w_t τ̂_t over those with sign(Σ w_t τ̂_t), τ̂_t = τ_t trimmed to density"
    source: ClassVar[str] = "Yadav et al. 2023, TIES-Merging, https://arxiv.org/abs/2306.01708"

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        return self.scope

    def kept(self, size: int) -> int:
        """How many of `size` entries the trim keeps, ties at the threshold aside."""
        # The product is rounded first: 0.07 · 100 is 7.000000000000001 in binary and means 7.
        share = round(self.density * size, 6)
        if self.convention == "stockpot":
            return min(ceil(share), size)
        return min(int(self.density * size) + (self.convention == "original"), size)

    def wants_round(self, round_: int, state: State) -> bool:
        if round_ < 2:
            return True
        return self.convention == "original" or bool((state.low.ranks < state.low.held).any())

    def survey_bytes(self, count: int) -> int:
        """A histogram under way, one waiting to be added, and the running sum that is made of their total."""
        return 3 * BINS[0] * np.dtype(np.int64).itemsize * count

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        counted = None if so_far is None else so_far.values
        if round_ == 0:
            histogram = magnitude_histogram(chunk.rows, 0, out=counted)
            refuse_not_finite(histogram, chunk.tensor)
            return Counts(histogram)
        if round_ == 1:
            return Counts(magnitude_histogram(chunk.rows, 1, state.top.bins, out=counted))
        if self.convention == "original":
            cuts = self._cuts(chunk, state)
            balance = sign_balance(chunk.rows, weights, state.magnitudes, cuts, chunk.start, "unweighted")
            return Counts(balance if counted is None else counted + balance)
        return Blocks(tie_counts(chunk.rows, state.magnitudes))

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == 0:
            return Trim(pick_bins(total.values, np.full(len(weights), self.kept(over.size))))
        if round_ == 1:
            low = pick_bins(total.values, state.top.ranks)
            return replace(state, low=low, magnitudes=magnitudes_of(state.top.bins, low.bins))
        if self.convention == "original":
            return replace(state, majority=int(np.sign(total.values.sum())))
        found = pick_blocks(total.values, state.low.ranks)
        return replace(state, ties=found._replace(bins=found.bins - over.first_block))

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        cuts = self._cuts(chunk, state)
        how: How = "count" if self.convention == "peft" and self.aggregate == "mean" else self.aggregate
        elect: Elect = "weighted" if self.convention == "stockpot" else "unweighted"
        zero_vote = {"stockpot": 0, "peft": 1, "original": state.majority or -1}[self.convention]
        return trim_elect(chunk.rows, weights, state.magnitudes, cuts, chunk.start, how, elect, zero_vote)

    def _cuts(self, chunk: Chunk, state: Trim) -> NDArray[np.int64]:
        """The flat index of the last tie kept of each ingredient, as far as this chunk can tell."""
        if self.convention == "original" or state.ties is None:
            return np.full(len(chunk.rows), UNCUT, dtype=np.int64)
        return chunk_cuts(chunk.rows, chunk.start, state.magnitudes, state.ties.bins, state.ties.ranks)
