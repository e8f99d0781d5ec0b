"""Consensus task arithmetic: the sum of task vectors where enough tasks call the entry their own."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.consensus import consensus
from merge_core.methods.contract import Chunk, Method, Rows, State, Weights
from merge_core.methods.finite import refuse_infinite_rows


class ConsensusTa(Method):
    """W₀ + λ τ_m at the entries that at least `owners` tasks own, τ_m = Σ v_t with v_t = w_t τ_t.

    Task t owns an entry where |v_t| > mask_scale · |τ_m − v_t|: its TALL mask. Entries that fewer own are selfish
    or catastrophic and stay as in the base. A recipe with fewer ingredients than `owners` asks for all of them,
    so that one ingredient comes back as it is. The paper picks mask_scale for each task from 0.2 to 0.6 on held-out
    data; here it is one for all. Wang et al., "Localizing Task Information for Improved Model Merging and
    Compression", 2024, https://arxiv.org/abs/2405.07813, section 5.
    """

    name: Literal["consensus_ta"] = "consensus_ta"
    mask_scale: float = Field(default=0.4, ge=0.0, le=10.0)
    owners: int = Field(default=2, ge=1)
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    formula: ClassVar[str] = (
        "W₀ + λ τ_m where |v_t| > mask_scale · |τ_m − v_t| for enough t, v_t = w_t τ_t, τ_m = Σ v_t"
    )
    source: ClassVar[str] = "Wang et al. 2024, Localizing Task Information, https://arxiv.org/abs/2405.07813"

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        refuse_infinite_rows(chunk.rows, chunk.tensor)
        mask_scales = np.full(len(weights), self.mask_scale, dtype=np.float32)
        return consensus(chunk.rows, weights, mask_scales, min(self.owners, len(weights)))
