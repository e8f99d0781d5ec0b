"""NearSwap: the base moves towards another model, in no entry by more than t."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.methods.contract import Chunk, Method, Rows, Space, State, Weights, refuse_weights


class NearSwap(Method):
    """W₀ + min(1, t/|τ|) · τ: entries closer than `t` are swapped, the others move by t.

    In other words W₀ + clip(τ, −t, t), so τ = 0 needs no care; t = 0 is the base. Takes one ingredient, without a
    weight. mergekit divides by at least 1e-6, so that for a t below it even equal-size steps shrink, and blends
    in the models' dtype. Alchemonaut, "QuartetAnemoi-70B-t0.0001", 2024.
    """

    name: Literal["nearswap"] = "nearswap"
    t: float = Field(default=1e-4, ge=0.0)
    space: ClassVar[Space] = "delta"
    most_inputs: ClassVar[int | None] = 1
    formula: ClassVar[str] = "W₀ + min(1, t/|τ|) · τ"
    source: ClassVar[str] = "Alchemonaut 2024, https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        step = np.float32(self.t)
        moved: Rows = np.clip(chunk.rows[0], -step, step)
        # Infinity would be clipped too, and is to be found.
        return np.where(np.isfinite(chunk.rows[0]), moved, np.float32(np.nan))
