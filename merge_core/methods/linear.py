"""Weighted average of weights: the uniform soup and its weighted kin."""

from typing import ClassVar, Literal

import numpy as np

from kernels.weighted_sum import weighted_sum
from merge_core.methods.contract import Chunk, Method, Rows, State, Weights, refuse_zero_sum


class Linear(Method):
    """Σ w_t W_t, divided by Σ w_t unless `normalize` is false.

    One input with weight 1 comes back bit for bit. Wortsman et al., "Model soups", 2022,
    https://arxiv.org/abs/2203.05482, section 2 (uniform soup: all weights equal).
    """

    name: Literal["linear"] = "linear"
    normalize: bool = True
    space: ClassVar[Literal["weight", "delta"]] = "weight"
    formula: ClassVar[str] = "Σ w_t W_t / Σ w_t"
    source: ClassVar[str] = "Wortsman et al. 2022, Model soups, https://arxiv.org/abs/2203.05482"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.normalize:
            refuse_zero_sum(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        return weighted_sum(chunk.rows, self.coefficients(weights))

    def coefficients(self, weights: Weights) -> Weights:
        """Normalised in float64, so that three weights of 1 become the float32 nearest to 1/3."""
        exact = weights.astype(np.float64)
        return (exact / exact.sum() if self.normalize else exact).astype(np.float32)
