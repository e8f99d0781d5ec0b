"""Localize-and-Stitch without data: each task's largest changes, averaged where tasks share an entry."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.stitch import stitch
from merge_core.methods import thresholds
from merge_core.methods.contract import Chunk, Counts, Method, Partial, Rows, State, Surveyed, Weights
from merge_core.methods.thresholds import at_least


class LocalizeAndStitch(Method):
    """W₀ + λ Σ M_t w_t τ_t / number of owners, M_t marking the `density` share of largest |τ_t| in the whole model.

    A task owns exactly ⌈density·n⌉ of the n entries of all tensors that some ingredient changes; of equal
    magnitudes those that come first, in order of name and element. Density 1 is the mean of all w_t τ_t, 0 the base.
    The paper also learns the masks on held-out data. He et al., "Localize-and-Stitch", 2024,
    https://arxiv.org/abs/2408.13656, section 3.
    """

    name: Literal["localize_and_stitch"] = "localize_and_stitch"
    density: float = Field(default=0.05, ge=0.0, le=1.0)
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    rounds: ClassVar[int] = thresholds.ROUNDS
    scans: ClassVar[bool] = True
    survey_ignores: ClassVar[frozenset[str]] = frozenset({"weights"})
    formula: ClassVar[str] = "W₀ + λ Σ M_t w_t τ_t / Σ M_t, M_t = the density share of largest |τ_t| in the model"
    source: ClassVar[str] = "He et al. 2024, Localize-and-Stitch, https://arxiv.org/abs/2408.13656"

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        return "model"

    def wants_round(self, round_: int, state: State) -> bool:
        return thresholds.wants(round_, state)

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(count)

    def block_bytes(self, count: int) -> int:
        return thresholds.block_bytes(count)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        return thresholds.survey(round_, chunk, state, "model", so_far)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        ranks = [np.full(len(weights), at_least(self.density, over.size))]
        return thresholds.conclude(round_, total, over, state, ranks)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        (search,) = state
        return stitch(chunk.rows, weights, search.magnitudes, search.cuts(chunk.source, chunk.start), chunk.start)
