"""RAM+ (tensor-local): RAM with what is a model's own amplified where most of its changes are shared."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.all_finite import rows_are_finite
from kernels.changed_mean import changed_counts, changed_mean
from merge_core.methods.contract import (
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
from merge_core.methods.finite import refuse_infinite_rows


class RamPlusTl(Method):
    """As `ram`, with the changes that one model t alone made multiplied by 1 + r·min(ρ_t, α).

    ρ_t = (entries with |τ_t| > ε that another model changed too) / (those that only t changed), in the tensor;
    nothing is amplified where no entry is t's own. Ingredients have no weights. mergekit, "Reinforced Agent Merging
    Plus (Tensor-Local)", computes it in the models' dtype. 2026, https://arxiv.org/abs/2601.13572.
    """

    name: Literal["ramplus_tl"] = "ramplus_tl"
    r: float = Field(default=0.1, ge=0.0)
    alpha: float = Field(default=0.2, ge=0.0)
    epsilon: float = Field(default=1e-5, ge=0.0)
    space: ClassVar[Space] = "delta"
    rounds: ClassVar[int] = 1
    formula: ClassVar[str] = "W₀ + λ · (mean of the τ_t with |τ_t| > ε; (1 + r·min(ρ_t, α))·τ_t where t is alone)"
    source: ClassVar[str] = "Reinforced Agent Merging, 2026, https://arxiv.org/abs/2601.13572"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        """int64 [ingredients, 2]: entries shared with another, and entries that are its own."""
        if not rows_are_finite(chunk.source):
            refuse_infinite_rows(chunk.rows, chunk.tensor)
        return Counts(changed_counts(chunk.source, self.epsilon, None if so_far is None else so_far.values))

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        shared, own = total.values.T.astype(np.float64)
        ratio = np.divide(shared, own, out=np.zeros_like(shared), where=own > 0)
        return (1.0 + self.r * np.minimum(ratio, self.alpha)).astype(np.float32)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        return changed_mean(chunk.source, self.epsilon, state)
