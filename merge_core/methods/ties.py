"""TIES: trim small changes, elect a sign for each entry, average the changes that agree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.trim_elect import Elect, How, sign_balance, trim_elect
from merge_core.methods import thresholds
from merge_core.methods.contract import Chunk, Counts, Entries, Method, Partial, Rows, State, Surveyed, Weights
from merge_core.methods.searches import Searches, first_entries, with_all_ties
from merge_core.methods.thresholds import at_least

Convention = Literal["stockpot", "original", "peft", "mergekit"]
Votes = Literal["total", "frequency"]


SIGNS = thresholds.ROUNDS
"""The round that finds the majority sign of the whole."""


@dataclass(frozen=True, slots=True)
class Trim:
    """What the surveys found: a threshold for each ingredient, and the sign that votes which cancel take.

    `is_settled` where no survey was needed.
    """

    searches: Searches
    majority: int = 0
    is_settled: bool = False


class Ties(Method):
    """Trim each τ_t to its `density` share of largest entries, elect sign(Σ w_t τ̂_t), merge what agrees.

    `stockpot` keeps exactly ⌈density·n⌉ entries (equal magnitudes: lower index wins; density 0 keeps none), and
    an entry whose votes cancel stays as in the base. `votes` frequency elects sign(Σ sign(τ̂_t)) instead: one input,
    one vote, whatever its weight and size (PEFT's majority_sign_method, mergekit's consensus_method count).
    `aggregate` mean is Σ w_t τ̂_t / Σ |w_t| over the agreeing entries, sum leaves the division out, max takes the
    largest. `scope` model draws one threshold over all tensors that some ingredient changes. `original` follows the
    authors' code: int(density·n)+1 entries and all that equal the last, votes without weights, and the majority sign
    of the whole for votes that cancel. `peft` keeps int(density·n), lets + win a cancelled vote, and divides by the
    number that agree. `mergekit` keeps int(density·n) but at least one unless density is 0, votes with weights, and
    lets + win a cancelled vote, which favours + wherever two models have moved apart by as much; it divides by Σ w_t,
    where this keeps to Σ |w_t|, so that a negative weight cannot turn the sign or make the sum vanish. Yadav et al.,
    "TIES-Merging", 2023, https://arxiv.org/abs/2306.01708, section 3.2.
    """

    name: Literal["ties"] = "ties"
    density: float = Field(default=1.0, ge=0.0, le=1.0)
    aggregate: Literal["mean", "sum", "max"] = "mean"
    scope: Literal["tensor", "model"] = "tensor"
    convention: Convention = "stockpot"
    votes: Votes = "total"
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    rounds: ClassVar[int] = SIGNS + 1
    scans: ClassVar[bool] = True
    survey_ignores: ClassVar[frozenset[str]] = frozenset({"weights", "aggregate"})
    formula: ClassVar[str] = "W₀ + λ mean of w_t τ̂_t over those with sign(Σ w_t τ̂_t), τ̂_t = τ_t trimmed to density"
    source: ClassVar[str] = "Yadav et al. 2023, TIES-Merging, https://arxiv.org/abs/2306.01708"

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        return self.scope

    def kept(self, size: int) -> int:
        """How many of `size` entries the trim keeps, ties at the threshold aside."""
        if self.convention == "stockpot":
            return at_least(self.density, size)
        if self.convention == "mergekit":
            return min(max(int(self.density * size), int(self.density > 0.0)), size)
        return min(int(self.density * size) + (self.convention == "original"), size)

    @property
    def _elect(self) -> Elect:
        if self.votes == "frequency":
            return "frequency"
        return "weighted" if self.convention in ("stockpot", "mergekit") else "unweighted"

    def settled(self, inputs: Sequence[Entries], size: int) -> State:
        if self.convention == "original" or (self.scope == "model" and self.density < 1.0):
            return None
        return Trim((first_entries(inputs, self.kept(size)),), is_settled=True)

    def wants_round(self, round_: int, state: State) -> bool:
        if state is not None and state.is_settled:
            return False
        if round_ in (thresholds.TIES, SIGNS):
            return (self.convention == "original") == (round_ == SIGNS) and self._wants(round_, state)
        return self._wants(round_, state)

    def _wants(self, round_: int, state: State) -> bool:
        return round_ == SIGNS or thresholds.wants(round_, None if state is None else state.searches)

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(count)

    def block_bytes(self, count: int) -> int:
        return thresholds.block_bytes(count)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        searches = None if state is None else state.searches
        if round_ != SIGNS:
            return thresholds.survey(round_, chunk, searches, self.scope, so_far)
        (search,) = state.searches
        cuts = search.cuts(chunk.source, chunk.start)
        balance = sign_balance(chunk.source, weights, search.magnitudes, cuts, chunk.start, self._elect)
        return Counts(balance if so_far is None else so_far.values + balance)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == SIGNS:
            return replace(state, majority=int(np.sign(total.values.sum())))
        searches, ranks = None if state is None else state.searches, [np.full(len(weights), self.kept(over.size))]
        searches = thresholds.conclude(round_, total, over, searches, ranks)
        return Trim(with_all_ties(searches) if self.convention == "original" else searches)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        (search,) = state.searches
        cuts = search.cuts(chunk.source, chunk.start)
        return trim_elect(chunk.source, weights, search.magnitudes, cuts, chunk.start, *self.choices(state))

    def choices(self, state: State) -> tuple[How, Elect, int]:
        """How what agrees is merged, who elects, and the sign where the votes cancel."""
        how: How = "count" if self.convention == "peft" and self.aggregate == "mean" else self.aggregate
        zero_vote = {"stockpot": 0, "peft": 1, "mergekit": 1, "original": state.majority or -1}[self.convention]
        return how, self._elect, zero_vote
