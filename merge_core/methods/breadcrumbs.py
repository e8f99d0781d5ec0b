"""Model Breadcrumbs: the largest and the smallest changes zeroed, the band between them added up."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.keep_band import keep_band
from merge_core.methods import thresholds
from merge_core.methods.contract import (
    Chunk,
    Counts,
    Method,
    Partial,
    Rows,
    State,
    Surveyed,
    Weights,
    refuse_zero_sum,
)
from merge_core.methods.sparse_rows import add_up
from merge_core.methods.thresholds import at_least, at_most


class Band(Method):
    """What both forms of breadcrumbs have in common: the band of magnitudes that each tensor keeps."""

    density: float = Field(default=1.0, ge=0.0, le=1.0)
    gamma: float = Field(default=0.01, ge=0.0, le=1.0)
    convention: Literal["stockpot", "mergekit"] = "stockpot"
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    rounds: ClassVar[int] = thresholds.ROUNDS
    scans: ClassVar[bool] = True
    survey_ignores: ClassVar[frozenset[str]] = frozenset({"weights"})
    source: ClassVar[str] = "Davari and Belilovsky 2023, Model Breadcrumbs, https://arxiv.org/abs/2312.06795"

    def band(self, size: int) -> tuple[int, int]:
        """The ranks, from the largest, after which keeping begins and ends."""
        if self.convention == "mergekit":
            kept = max(int(self.density * size), int(self.density > 0.0 and size > 0))
            outliers = min(int(self.gamma * size), size - kept)
            return outliers, outliers + kept
        outliers = at_most(self.gamma, size)
        return outliers, min(outliers + at_least(self.density, size), size)

    def wants_round(self, round_: int, state: State) -> bool:
        return thresholds.wants(round_, state)

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(count, searches=2)

    def block_bytes(self, count: int) -> int:
        return thresholds.block_bytes(count, searches=2)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        return thresholds.survey(round_, chunk, state, "tensor", so_far)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        ranks = [np.full(len(weights), rank) for rank in self.band(over.size)]
        return thresholds.conclude(round_, total, over, state, ranks)

    def thinned(self, chunk: Chunk, state: State) -> Rows:
        """The chunk's rows with what lies outside the band zeroed, in their place."""
        upper, lower = ((search.magnitudes, search.cuts(chunk.source, chunk.start)) for search in state)
        return keep_band(chunk.rows, lower, upper, chunk.start, chunk.rows)


class Breadcrumbs(Band):
    """W₀ + λ Σ w_t τ̂_t, τ̂_t being τ_t without its `gamma` share of largest entries and without its smallest.

    Of n entries the ⌊gamma·n⌋ largest are zeroed and the next ⌈density·n⌉ kept, exactly: of equal magnitudes the
    lower index counts as larger. So a tensor of fewer than 1/gamma entries loses none at the top, and keeps at
    least one unless density is 0; mergekit rounds the share that is kept down, so that small tensors vanish.
    gamma 0 and density 1 keep everything. Convention `mergekit` keeps int(density·n), and drops int(gamma·n) or
    as many fewer as that leaves room for, so density 1 keeps outliers too; of a small tensor one entry stays, which
    mergekit lets vanish. `normalize` divides by Σ w_t. Davari and Belilovsky, "Model
    Breadcrumbs", 2023, https://arxiv.org/abs/2312.06795, section 3.
    """

    name: Literal["breadcrumbs"] = "breadcrumbs"
    normalize: bool = False
    formula: ClassVar[str] = "W₀ + λ Σ w_t τ̂_t, τ̂_t = the density share of τ_t below its gamma share of largest |τ_t|"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.normalize:
            refuse_zero_sum(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        return add_up(self.thinned(chunk, state), weights, self.normalize)
