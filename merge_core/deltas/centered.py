"""A stored tensor as it is around a center: factors of IA3 change nothing where they are 1."""

from dataclasses import dataclass

import numpy as np

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.deltas.one_tensor import OneTensor


@dataclass(frozen=True, slots=True, eq=False)
class Centered(OneTensor):
    """W = stored − center, whatever the base has; doubles as its own loader."""

    center: float
    kind = "centered"

    def open(self) -> "Centered":
        return self

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        widen(self.stored.storage()[start : start + out.size], self.stored.spec.dtype.label, out)
        out -= np.float32(self.center)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a delta method without a base"
        self.load_weight(out, start, base)
        out -= base
