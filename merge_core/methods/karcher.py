"""The Karcher (Riemannian) mean of models on the sphere."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.errors import RecipeError
from merge_core.methods.combination import Doubles, LinearCombination, norms_and_cosines, reciprocal
from merge_core.methods.contract import Space, refuse_zero_sum

SMALLEST_ANGLE = 1e-6


class Karcher(LinearCombination):
    """Σ a_t ‖x_t‖ · p, where p minimises Σ a_t angle(p, x_t)² over unit vectors; a_t = w_t / Σ w.

    x are the weights, or with `of: deltas` the deltas from the base. p is found by gradient steps
    p ← exp_p(Σ a_t log_p(x_t / ‖x_t‖)) from the mean direction until a step is shorter than `tol`, at most
    `max_iter` times, in float64 on inner products alone. An x of norm 0 has no direction and counts in the length
    alone; one opposite to p (π − angle under 1e-6) pulls in no direction. Where the weighted unit vectors cancel
    (their mean is shorter than 1e-6, so that rounding would turn it) there is no unique mean, and the result is
    Σ a_t x_t. Weights must not be negative. mergekit takes equal weights, 10 iterations and tol 1e-5, iterates on
    vectors in the models' dtype, and starts from the first input where directions cancel. Karcher 1977.
    """

    name: Literal["karcher"] = "karcher"
    of: Literal["weights", "deltas"] = "weights"
    max_iter: int = Field(default=1000, ge=0, le=100_000)
    tol: float = Field(default=1e-8, ge=0.0, lt=1.0)
    space: ClassVar[Space] = "weight"
    rounds: ClassVar[int] = 1
    formula: ClassVar[str] = "Σ a_t ‖W_t‖ · argmin_p Σ a_t angle(p, W_t)², ‖p‖ = 1, a_t = w_t / Σ w"
    source: ClassVar[str] = (
        "Karcher 1977, Riemannian center of mass; mergekit's karcher, https://arxiv.org/abs/2603.04972"
    )

    def works_on(self, has_base: bool) -> Space:
        return "delta" if self.of == "deltas" else "weight"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_zero_sum(weights, tensor)
        if min(weights) < 0.0:
            where = "ingredients[].weight"
            raise RecipeError(f"tensor '{tensor}': a mean has no negative shares", where=where, found=f"{weights}")

    def coefficients(self, products: Doubles, weights: Doubles) -> Doubles:
        norms, cosines = norms_and_cosines(products)
        return np.stack([self._of_row(*row, weights / weights.sum()) for row in zip(norms, cosines, strict=True)])

    def _of_row(self, norms: Doubles, cosines: Doubles, shares: Doubles) -> Doubles:
        point = shares * (norms > 0.0)
        length = _length(point, cosines)
        if length < SMALLEST_ANGLE or len(shares) == 1:
            return shares
        point = self._descended(point / length, cosines, shares * (norms > 0.0) / point.sum())
        return (norms @ shares) * point * reciprocal(norms)

    def _descended(self, point: Doubles, cosines: Doubles, shares: Doubles) -> Doubles:
        """The mean as coefficients of the unit vectors."""
        for _ in range(self.max_iter):
            step = _pull(point, cosines, shares)
            size = _length(step, cosines)
            if size < self.tol or size == 0.0:
                break
            point = np.cos(size) * point + np.sin(size) / size * step
            point /= _length(point, cosines)
        return point


def _pull(point: Doubles, cosines: Doubles, shares: Doubles) -> Doubles:
    """Σ a_t log_p(u_t) as coefficients of the unit vectors u."""
    dots = np.clip(cosines @ point, -1.0, 1.0)
    angles = np.arccos(dots)
    is_pulling = (angles > 0.0) & (np.pi - angles >= SMALLEST_ANGLE)
    pulls = shares * np.divide(angles, np.sin(angles), out=np.zeros_like(angles), where=is_pulling)
    return pulls - float(pulls @ dots) * point


def _length(vector: Doubles, cosines: Doubles) -> float:
    """‖Σ v_t u_t‖."""
    return float(np.sqrt(max(float(vector @ cosines @ vector), 0.0)))
