"""Model Stock: the average of fine-tunes, drawn towards the base as far as they disagree."""

from typing import ClassVar, Literal

import numpy as np

from merge_core.methods.combination import Doubles, LinearCombination, norms_and_cosines
from merge_core.methods.contract import Reads, Space, refuse_weights


class ModelStock(LinearCombination):
    """W₀ + t · mean τ_t with t = T·cosθ / (1 + (T−1)·cosθ), cosθ the mean cosine of all pairs of τ.

    For each tensor, or with `per_row` for each row (one output; a 1-D tensor is one row, further dimensions are
    part of a row). A τ of norm 0 has cosine 0 with every other. One input is taken as it is (t = 1); inputs that
    cancel (1 + (T−1)·cosθ under 1e-6) leave the base. Ingredients have no weights. mergekit's `filter_wise` takes
    the last dimension of a tensor with more than two, clamps products of norms at 1e-6 (so tiny deltas count as
    unrelated), wants two inputs and computes in the models' dtype. Jang et al., "Model Stock", 2024,
    https://arxiv.org/abs/2403.19522, equation 3.
    """

    name: Literal["model_stock"] = "model_stock"
    per_row: bool = False
    space: ClassVar[Space] = "delta"
    rounds: ClassVar[int] = 1
    formula: ClassVar[str] = "W₀ + t · mean τ, t = T·cosθ / (1 + (T−1)·cosθ), cosθ the mean pairwise cosine"
    source: ClassVar[str] = "Jang et al. 2024, Model Stock, https://arxiv.org/abs/2403.19522"

    @property
    def unit(self) -> Reads:
        return "row" if self.per_row else "element"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def coefficients(self, products: Doubles, weights: Doubles) -> Doubles:
        count = len(weights)
        _, cosines = norms_and_cosines(products)
        share = _ratio(cosines, count) if count > 1 else np.ones(len(cosines))
        return np.repeat(share[:, None] / count, count, axis=1)


def _ratio(cosines: Doubles, count: int) -> Doubles:
    """t of each row, from the cosines [rows, models, models]."""
    first, second = np.triu_indices(count, 1)
    cosine = cosines[:, first, second].mean(axis=1)
    whole = 1.0 + (count - 1) * cosine
    ratio: Doubles = np.divide(count * cosine, whole, out=np.zeros_like(whole), where=np.abs(whole) >= 1e-6)
    return ratio
