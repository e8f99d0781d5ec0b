"""WiSE-FT: a straight line from the base to a fine-tune."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.weighted_sum import weighted_sum
from merge_core.methods.contract import Chunk, Method, Rows, Space, State, Weights, refuse_weights


class WiseFt(Method):
    """(1−α) W₀ + α W; `alpha` 0 is the base and 1 the fine-tune, bit for bit.

    Takes one ingredient, without a weight. Wortsman et al., "Robust fine-tuning of zero-shot models", 2022,
    https://arxiv.org/abs/2109.01903, section 3.
    """

    name: Literal["wise_ft"] = "wise_ft"
    alpha: float = Field(default=0.5, ge=0.0, le=1.0)
    space: ClassVar[Space] = "weight"
    needs_base: ClassVar[bool] = True
    most_inputs: ClassVar[int | None] = 1
    formula: ClassVar[str] = "(1−α) W₀ + α W"
    source: ClassVar[str] = (
        "Wortsman et al. 2022, Robust fine-tuning of zero-shot models, https://arxiv.org/abs/2109.01903"
    )

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        assert chunk.base is not None, "planning refuses a recipe without a base"
        if self.alpha in (0.0, 1.0):
            taken, left = (chunk.rows[0], chunk.base) if self.alpha else (chunk.base, chunk.rows[0])
            return np.where(np.isfinite(left), taken, np.float32(np.nan))
        shares = np.array([1.0 - self.alpha, self.alpha], dtype=np.float32)
        return weighted_sum(np.stack([chunk.base, chunk.rows[0]]), shares)
