"""RAM+ (tensor-local): RAM with what is a model's own amplified where most of its changes are shared."""

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from merge_core.methods.contract import (
    Chunk,
    Counts,
    Method,
    Partial,
    Rows,
    Space,
    State,
    Surveyed,
    Weights,
    refuse_infinite_rows,
    refuse_weights,
)
from merge_core.methods.ram import changed


class RamPlusTl(Method):
    """As `ram`, with the changes that one model t alone made multiplied by 1 + r·min(ρ_t, α).

    ρ_t = (entries with |τ_t| > ε that another model changed too) / (those that only t changed), in the tensor;
    nothing is amplified where no entry is t's own. Ingredients have no weights. mergekit, "Reinforced Agent Merging
    Plus (Tensor-Local)", computes it in the models' dtype. 2026, https://arxiv.org/abs/2601.13572.
    """

    name: Literal["ramplus_tl"] = "ramplus_tl"
    r: float = Field(default=0.1, ge=0.0)
    alpha: float = Field(default=0.2, ge=0.0)
    epsilon: float = Field(default=1e-5, ge=0.0)
    space: ClassVar[Space] = "delta"
    rounds: ClassVar[int] = 1
    formula: ClassVar[str] = "W₀ + λ · (mean of the τ_t with |τ_t| > ε; (1 + r·min(ρ_t, α))·τ_t where t is alone)"
    source: ClassVar[str] = "Reinforced Agent Merging, 2026, https://arxiv.org/abs/2601.13572"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        """int64 [ingredients, 2]: entries shared with another, and entries that are its own."""
        refuse_infinite_rows(chunk.rows, chunk.tensor)
        owners = self._owners(chunk.rows)
        counts = np.zeros((len(chunk.rows), 2), dtype=np.int64) if so_far is None else so_far.values
        for row, its_counts in zip(chunk.rows, counts, strict=True):
            is_changed = changed(row, self.epsilon)
            its_counts += (np.count_nonzero(is_changed & (owners > 1)), np.count_nonzero(is_changed & (owners == 1)))
        return Counts(counts)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        shared, own = total.values.T.astype(np.float64)
        ratio = np.divide(shared, own, out=np.zeros_like(shared), where=own > 0)
        return (1.0 + self.r * np.minimum(ratio, self.alpha)).astype(np.float32)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        owners = self._owners(chunk.rows)
        total = np.zeros(chunk.rows.shape[1], dtype=np.float32)
        for row, gain in zip(chunk.rows, state, strict=True):
            amplified = np.where(owners == 1, row * gain, row)
            total += np.where(changed(row, self.epsilon), amplified, np.float32(0.0))
        total /= np.maximum(owners, 1).astype(np.float32)
        return total

    def _owners(self, rows: Rows) -> NDArray[np.int16]:
        """How many models changed each element; more than 256 models are not merged."""
        owners = np.zeros(rows.shape[1], dtype=np.int16)
        for row in rows:
            owners += changed(row, self.epsilon)
        return owners
