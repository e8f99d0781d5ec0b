"""scale · up · down: what a LoRA says of a weight, never multiplied out beyond the chunk asked for."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from kernels.low_rank_add import low_rank_add
from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class LowRank:
    """W = base + scale · up · down, flattened to `shape`.

    `lora_b` is [rows, rank] and `lora_a` [rank, columns] as stored, with any trailing kernel dimensions
    flattened. With `transposed` (weights stored [in, out], and embeddings) the delta is (B·A)ᵀ.
    """

    lora_a: StoredTensor
    lora_b: StoredTensor
    scale: float
    shape: tuple[int, ...]
    transposed: bool = False
    kind = "low_rank"

    @property
    def rank(self) -> int:
        return self.lora_a.spec.shape[0]

    @property
    def nbytes(self) -> int:
        return self.lora_a.spec.nbytes + self.lora_b.spec.nbytes

    @property
    def open_bytes(self) -> int:
        """Both factors in float32, once more beside those of other adapters, and what a product scales of them."""
        return 3 * 4 * (self.lora_a.spec.size + self.lora_b.spec.size)

    def fit(self, shape: tuple[int, ...]) -> "LowRank | None":
        """The same for a pointwise convolution's weight, which is a matrix in all but the number of dimensions."""
        return replace(self, shape=shape) if _squeezed(shape) == _squeezed(self.shape) else None

    def open(self) -> "LowRankLoader":
        a, b = widened(self.lora_a), widened(self.lora_b)
        up, down = (a.T, b.T) if self.transposed else (b, a)
        return LowRankLoader(np.ascontiguousarray(up), np.ascontiguousarray(down), self.scale)


@dataclass(frozen=True, slots=True, eq=False)
class LowRankLoader:
    """`up` is float32 [rows, rank], `down` float32 [rank, columns]."""

    up: Rows
    down: Rows
    scale: float

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a low-rank delta without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        out[:] = 0.0
        low_rank_add(out, self.down.shape[1], start, self.up, self.down, self.scale)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape as that of a matrix, where it is one followed by dimensions of length 1."""
    return shape[:2] if set(shape[2:]) <= {1} else shape


def widened(stored: StoredTensor) -> Rows:
    """The tensor as a float32 matrix [first dimension, the rest]."""
    out = np.empty(stored.spec.size, dtype=np.float32)
    widen(stored.storage(), stored.spec.dtype.label, out)
    return out.reshape(stored.spec.shape[0], prod(stored.spec.shape[1:]))
