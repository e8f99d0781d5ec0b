"""Two frozen factors with a small trained matrix between them: LoRA-XS, LoRA-SB."""

from dataclasses import dataclass

import numpy as np

from merge_core.deltas.low_rank import LowRank, LowRankLoader, widened
from merge_core.deltas.product import multiplied
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class Cored:
    """W = base + scale · B R A. Bałazy et al., "LoRA-XS", 2024, https://arxiv.org/abs/2405.17604, equation 2."""

    factors: LowRank
    core: StoredTensor
    kind = "low_rank"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.factors.shape

    @property
    def rank(self) -> int:
        return self.factors.rank

    @property
    def nbytes(self) -> int:
        return self.factors.nbytes + self.core.spec.nbytes

    @property
    def open_bytes(self) -> int:
        return self.factors.open_bytes + 4 * (self.core.spec.size + self.factors.lora_a.spec.size)

    def open(self) -> LowRankLoader:
        up, down = widened(self.factors.lora_b), multiplied(widened(self.core), widened(self.factors.lora_a))
        left, right = (down.T, up.T) if self.factors.transposed else (up, down)
        return LowRankLoader(np.ascontiguousarray(left), np.ascontiguousarray(right), self.factors.scale)
