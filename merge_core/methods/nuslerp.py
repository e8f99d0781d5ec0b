"""Spherical interpolation of two models' deltas (or weights), as a whole or vector by vector."""

from typing import ClassVar, Literal

import numpy as np

from merge_core.methods.combination import Doubles, LinearCombination, norms_and_cosines
from merge_core.methods.contract import Chunk, Reads, Rows, Space, State, Weights, refuse_zero_sum
from merge_core.methods.slerp import SMALLEST_ANGLE

STRIPE = 1 << 16
"""Elements whose columns are turned into rows at once."""


class NuSlerp(LinearCombination):
    """sin((1−t)θ)/sinθ · x_1 + sin(tθ)/sinθ · x_2 with t = w_2 / (w_1 + w_2).

    x are deltas in a recipe with a base, else weights. `per` says what θ is the angle of: the two whole
    tensors, each row (one output; a 1-D tensor is one row, further dimensions are part of a row), or each
    column (all that share the later indices; reads the whole matrix). Falls back to (1−t) x_1 + t x_2 where
    θ or π − θ is under 1e-6, or a norm is 0; weights that sum to 0 are refused. Negative weights extrapolate.
    mergekit's `nuslerp_flatten` is per tensor; without it `nuslerp_row_wise: false` are the vectors along the
    last dimension (our rows, of a matrix), and `true` those along the first (our columns). It falls back to
    t = 0.5 when weights cancel, and to lerp when 1 − cos²θ ≤ 1e-16. Shoemake 1985.
    """

    name: Literal["nuslerp"] = "nuslerp"
    per: Literal["tensor", "row", "column"] = "tensor"
    space: ClassVar[Space] = "delta"
    rounds: ClassVar[int] = 1
    fewest_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2
    formula: ClassVar[str] = "W₀ + sin((1−t)θ)/sinθ · τ_1 + sin(tθ)/sinθ · τ_2, t = w_2 / Σ w; on W_t without a base"
    source: ClassVar[str] = "Shoemake 1985, Animating rotation with quaternion curves; mergekit's nuslerp, 2024"

    def works_on(self, has_base: bool) -> Space:
        return "delta" if has_base else "weight"

    @property
    def unit(self) -> Reads:
        units: dict[str, Reads] = {"tensor": "element", "row": "row", "column": "matrix"}
        return units[self.per]

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_zero_sum(weights, tensor)

    def coefficients(self, products: Doubles, weights: Doubles) -> Doubles:
        norms, cosines = norms_and_cosines(products)
        share = float(weights[1] / weights.sum())
        angle = np.arccos(cosines[:, 0, 1])
        is_arc = (norms.min(axis=1) > 0.0) & (angle >= SMALLEST_ANGLE) & (np.sin(angle) >= SMALLEST_ANGLE)
        angle = np.where(is_arc, angle, 1.0)
        arc = np.stack([np.sin((1.0 - share) * angle), np.sin(share * angle)], axis=1) / np.sin(angle)[:, None]
        return np.where(is_arc[:, None], arc, [1.0 - share, share])

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        if self.per != "column":
            return super().merge(chunk, weights, state)
        height = chunk.shape[0] if len(chunk.shape) > 1 else chunk.rows.shape[1]
        stack = chunk.rows.reshape(2, height, -1)
        merged = np.empty_like(stack[0])
        stripe = max(STRIPE // height, 1)
        for left in range(0, merged.shape[1], stripe):
            turned = np.ascontiguousarray(stack[:, :, left : left + stripe].swapaxes(1, 2)).reshape(2, -1)
            columns = self.merge_rows(turned, height, chunk.tensor, weights).reshape(-1, height)
            merged[:, left : left + stripe] = columns.T
        flat: Rows = merged.reshape(-1)
        return flat
