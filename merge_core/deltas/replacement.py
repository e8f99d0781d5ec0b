"""A whole tensor that stands in place of the base's: a full fine-tune's weight, or a new head."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from kernels.storage import widen, widen_difference
from merge_core.deltas.contract import Rows
from merge_core.deltas.one_tensor import OneTensor


@dataclass(frozen=True, slots=True, eq=False)
class Replacement(OneTensor):
    """Weights as stored; the delta is W − base, subtracted in float32 chunk by chunk."""

    kind = "replacement"

    def open(self) -> "ReplacementLoader":
        return ReplacementLoader(self.stored.storage(), self.stored.spec.dtype.label)


@dataclass(frozen=True, slots=True, eq=False)
class ReplacementLoader:
    """Widens the stored weights of a chunk."""

    raw: NDArray[Any]
    label: str

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        widen(self.raw[start : start + out.size], self.label, out)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a delta method without a base"
        widen_difference(self.raw[start : start + out.size], self.label, base, out)
