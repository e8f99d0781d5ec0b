"""Spherical interpolation of two models."""

from dataclasses import dataclass
from math import acos, sin, sqrt
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.gram import gram
from merge_core.methods.contract import (
    Blocks,
    Chunk,
    Counts,
    Method,
    Partial,
    State,
    Surveyed,
    Weights,
    refuse_zero_sum,
)

SMALLEST_ANGLE = 1e-6


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What multiplies each of the two inputs, float32 [2]."""

    of_inputs: Weights


class Slerp(Method):
    """sin((1−t)θ)/sinθ · W_1 + sin(tθ)/sinθ · W_2, θ the angle between the flattened tensors.

    `t` in [0, 1] is the share of the second input; without it, t = w_2 / (w_1 + w_2). Falls back to
    (1−t) W_1 + t W_2 where θ or π − θ is under 1e-6, a norm is 0, or |cos θ| > `lerp_above`: mergekit's is 0.9995,
    which fine-tunes of one base mostly exceed; there it is off the arc by up to θ²/8, 0.02 %. The angle comes from a
    survey of inner products in float64, so the merge streams. Shoemake, "Animating rotation with quaternion
    curves", 1985.
    """

    name: Literal["slerp"] = "slerp"
    t: float | None = Field(default=None, ge=0.0, le=1.0)
    lerp_above: float = Field(default=1.0, ge=0.0, le=1.0)
    space: ClassVar[Literal["weight", "delta"]] = "weight"
    rounds: ClassVar[int] = 1
    scans: ClassVar[bool] = True
    fewest_inputs: ClassVar[int] = 2
    most_inputs: ClassVar[int | None] = 2
    formula: ClassVar[str] = "sin((1−t)θ)/sinθ · W_1 + sin(tθ)/sinθ · W_2"
    source: ClassVar[str] = "Shoemake 1985, Animating rotation with quaternion curves"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.t is None:
            refuse_zero_sum(weights, tensor)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        return Blocks(gram(chunk.source))

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        products = total.values.sum(axis=0, dtype=np.float64)
        first, second, product = float(products[0, 0]), float(products[1, 1]), float(products[0, 1])
        pair = interpolate(self._share(weights), first, second, product, self.lerp_above)
        return Coefficients(np.array(pair, dtype=np.float32))

    def combination(self, weights: Weights, state: State) -> Weights:
        return state.of_inputs  # type: ignore[no-any-return]

    def _share(self, weights: Weights) -> float:
        first, second = (float(weight) for weight in weights)
        return second / (first + second) if self.t is None else self.t


def interpolate(t: float, first: float, second: float, product: float, lerp_above: float = 1.0) -> tuple[float, float]:
    """The two coefficients of slerp at `t`, from ⟨a, a⟩, ⟨b, b⟩ and ⟨a, b⟩; of lerp where |cos θ| > `lerp_above`."""
    norms = sqrt(first) * sqrt(second)
    cosine = max(-1.0, min(1.0, product / norms)) if norms > 0.0 else 1.0
    angle = acos(cosine)
    if abs(cosine) > lerp_above or angle < SMALLEST_ANGLE or sin(angle) < SMALLEST_ANGLE:
        return 1.0 - t, t
    return sin((1.0 - t) * angle) / sin(angle), sin(t * angle) / sin(angle)
