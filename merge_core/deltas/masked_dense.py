"""A dense tensor through a stored mask, with a factor: pruned weights, or one task's share of a vector."""

from dataclasses import dataclass

import numpy as np

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class MaskedDense:
    """W = base + scale · values ⊙ mask; the mask is of bytes, none of them 0 where it keeps, or floats."""

    values: StoredTensor
    mask: StoredTensor
    scale: float
    kind = "masked_dense"
    open_bytes = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.spec.shape

    @property
    def nbytes(self) -> int:
        return self.values.spec.nbytes + self.mask.spec.nbytes

    def open(self) -> "MaskedDenseLoader":
        return MaskedDenseLoader(self)


@dataclass(frozen=True, slots=True, eq=False)
class MaskedDenseLoader:
    """Widens a chunk of both."""

    delta: MaskedDense

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a masked delta without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        run, delta = slice(start, start + out.size), self.delta
        widen(delta.values.storage()[run], delta.values.spec.dtype.label, out)
        mask = delta.mask.storage()[run]
        if delta.mask.spec.dtype.mergeable:
            out *= widen(mask, delta.mask.spec.dtype.label)
        else:
            out[mask.view(np.uint8) == 0] = 0.0
        out *= np.float32(delta.scale)
