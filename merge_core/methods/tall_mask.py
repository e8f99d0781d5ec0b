"""TALL masks: what the sum of all task vectors holds of one task."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.weighted_sum import weighted_sum
from merge_core.methods.contract import Chunk, Method, Rows, State, Weights
from merge_core.methods.finite import refuse_infinite_rows
from merge_core.methods.per_task import require_task


class TallMask(Method):
    """W₀ + λ M_t ⊙ τ_m with τ_m = Σ v_t, v_t = w_t τ_t, M_t = [|v_t| > mask_scale · |τ_m − v_t|], t being `task`.

    `task` is the ingredient, counted from 0, whose model is wanted back from the sum of all. With one ingredient
    the mask covers every change and that ingredient comes back. The paper picks mask_scale for each task from 0.2
    to 0.6 on held-out data. Wang et al., "Localizing Task Information for Improved Model Merging and
    Compression", 2024, https://arxiv.org/abs/2405.07813, section 4.
    """

    name: Literal["tall_mask"] = "tall_mask"
    task: int = Field(default=0, ge=0)
    mask_scale: float = Field(default=0.4, ge=0.0, le=10.0)
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    formula: ClassVar[str] = "W₀ + λ [|v_t| > mask_scale · |τ_m − v_t|] ⊙ τ_m, v_t = w_t τ_t, τ_m = Σ v_t"
    source: ClassVar[str] = "Wang et al. 2024, Localizing Task Information, https://arxiv.org/abs/2405.07813"

    def check(self, weights: list[float], tensor: str) -> None:
        require_task(self.task, weights)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        refuse_infinite_rows(chunk.rows, chunk.tensor)
        total, own = weighted_sum(chunk.rows, weights), weights[self.task] * chunk.rows[self.task]
        is_owned = np.abs(own) > np.float32(self.mask_scale) * np.abs(total - own)
        return np.where(is_owned, total, np.float32(0))
