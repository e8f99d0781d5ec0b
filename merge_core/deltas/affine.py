"""A vector scaled and shifted entry by entry: what SSF says of a bias."""

from dataclasses import dataclass

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """W = factors · base + shift."""

    factors: StoredTensor
    shift: StoredTensor
    kind = "affine"
    open_bytes = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shift.spec.shape

    @property
    def nbytes(self) -> int:
        return self.factors.spec.nbytes + self.shift.spec.nbytes

    def open(self) -> "AffineLoader":
        return AffineLoader(self.factors, self.shift)


@dataclass(frozen=True, slots=True, eq=False)
class AffineLoader:
    """Widens factors and shift of a chunk."""

    factors: StoredTensor
    shift: StoredTensor

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a scaled bias without a base"
        out[:] = base
        out *= _part(self.factors, start, out.size)
        out += _part(self.shift, start, out.size)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        self.load_weight(out, start, base)
        assert base is not None, "load_weight has looked"
        out -= base


def _part(stored: StoredTensor, start: int, size: int) -> Rows:
    return widen(stored.storage()[start : start + size], stored.spec.dtype.label)
