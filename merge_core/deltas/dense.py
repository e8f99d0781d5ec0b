"""A delta stored entry by entry, with a factor: such as the bias that a LoRA trains beside its factors."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.deltas.one_tensor import OneTensor


@dataclass(frozen=True, slots=True, eq=False)
class Dense(OneTensor):
    """W = base + scale · stored."""

    scale: float
    kind = "dense"

    def open(self) -> "DenseLoader":
        return DenseLoader(self.stored.storage(), self.stored.spec.dtype.label, np.float32(self.scale))


@dataclass(frozen=True, slots=True, eq=False)
class DenseLoader:
    """Widens and scales the stored entries of a chunk."""

    raw: NDArray[Any]
    label: str
    scale: np.float32

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a dense delta without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        widen(self.raw[start : start + out.size], self.label, out)
        out *= self.scale
