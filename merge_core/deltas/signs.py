"""One bit for each weight and one factor for all of them: BitDelta."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor

BITS = 32


@dataclass(frozen=True, slots=True, eq=False)
class Signs:
    """W = base ± scale: plus where the bit is set. `mask` is int32 [columns / 32, rows].

    Bit j of mask[i, r] is of the weight in row r and column 32 i + j.
    """

    mask: StoredTensor
    scale: float
    kind = "signs"
    open_bytes = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.mask.spec.shape[1], BITS * self.mask.spec.shape[0])

    @property
    def nbytes(self) -> int:
        return self.mask.spec.nbytes

    def open(self) -> "SignsLoader":
        words = self.mask.storage().view(np.uint32).reshape(self.mask.spec.shape)
        return SignsLoader(words, self.shape[1], np.float32(self.scale))


@dataclass(frozen=True, slots=True, eq=False)
class SignsLoader:
    """Unpacks the rows that a chunk touches."""

    words: NDArray[np.uint32]
    columns: int
    scale: np.float32

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses signs without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        if not out.size:
            return
        first, last = start // self.columns, (start + out.size - 1) // self.columns
        words = np.ascontiguousarray(self.words[:, first : last + 1].T).astype("<u4")
        bits = np.unpackbits(words.view(np.uint8), bitorder="little")
        within = start - first * self.columns
        out[:] = np.where(bits[within : within + out.size], self.scale, -self.scale)
