"""Spherical average of any number of models: a mean direction with a mean length."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.methods.combination import Doubles, LinearCombination, norms_and_cosines, reciprocal
from merge_core.methods.contract import Space, refuse_zero_sum


class MultiSlerp(LinearCombination):
    """m / ‖m‖ · Σ w_t ‖x_t‖ with m = Σ w_t x_t / ‖x_t‖, the weights divided by their sum unless `normalize` is false.

    x are deltas in a recipe with a base, else weights; an x of norm 0 has no direction and counts in the length
    alone. The published construction averages in the tangent space at m: there the weighted average is zero by
    the choice of m, so this is all it computes. Where ‖m‖ is under `eps` (inputs that cancel) the result is
    Σ w_t x_t: float32 inputs that cancel but for rounding have no direction left. mergekit has eps 1e-8, does that
    for two inputs only and raises for more, adds `eps` to each norm, and returns a single input as it is, whatever
    its weight. Goddard, "Multi-SLERP", 2024.
    """

    name: Literal["multislerp"] = "multislerp"
    normalize: bool = True
    eps: float = Field(default=1e-6, ge=0.0, lt=1.0)
    space: ClassVar[Space] = "delta"
    rounds: ClassVar[int] = 1
    formula: ClassVar[str] = "W₀ + Σ w_t ‖τ_t‖ · m / ‖m‖, m = Σ w_t τ_t / ‖τ_t‖; on W_t without a base"
    source: ClassVar[str] = "Goddard 2024, Multi-SLERP, https://goddard.blog/posts/multislerp-wow-what-a-cool-idea"

    def works_on(self, has_base: bool) -> Space:
        return "delta" if has_base else "weight"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.normalize:
            refuse_zero_sum(weights, tensor)

    def coefficients(self, products: Doubles, weights: Doubles) -> Doubles:
        shares = weights / weights.sum() if self.normalize else weights
        norms, cosines = norms_and_cosines(products)
        return np.stack([self._of_row(*row, shares) for row in zip(norms, cosines, strict=True)])

    def _of_row(self, norms: Doubles, cosines: Doubles, shares: Doubles) -> Doubles:
        length = float(np.sqrt(max(float(shares @ cosines @ shares), 0.0)))
        if length <= self.eps or len(shares) == 1:
            return shares
        return (norms @ shares) * shares * reciprocal(norms) / length
