"""New values for the small entries of a weight, which are found again by looking at the base."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.storage import narrow, widen
from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor

BLOCK = 1 << 16
"""Elements between the counts that are kept, so that a chunk is read without those before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """W = base, but the next of the `values` wherever |base| < `threshold`.

    `before` has, for each BLOCK of elements, how many entries there are before it; `make` counts them.
    """

    base: StoredTensor
    values: StoredTensor
    threshold: np.float32
    before: NDArray[np.int64]
    kind = "masked"
    open_bytes = 4 * BLOCK

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.spec.shape

    @property
    def nbytes(self) -> int:
        return self.values.spec.nbytes

    @staticmethod
    def make(base: StoredTensor, values: StoredTensor, threshold: float) -> "Masked":
        """The delta; `kept` says how many values it needs."""
        limit = rounded(threshold, base.spec.dtype.label)
        counts = [_small(base, start, BLOCK, limit) for start in range(0, base.spec.size, BLOCK)]
        return Masked(base, values, limit, np.cumsum([0, *counts], dtype=np.int64))

    @property
    def kept(self) -> int:
        return int(self.before[-1])

    def open(self) -> "MaskedLoader":
        return MaskedLoader(self)


@dataclass(frozen=True, slots=True, eq=False)
class MaskedLoader:
    """Counts from the start of a block to know which values a chunk gets."""

    delta: Masked

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a masked delta without a base"
        mask, values = self._values(start, base)
        out[:] = base
        out[mask] = values

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a masked delta without a base"
        mask, values = self._values(start, base)
        out[:] = 0.0
        out[mask] = values - base[mask]

    def _values(self, start: int, base: Rows) -> tuple[NDArray[np.bool_], Rows]:
        block = start // BLOCK
        delta = self.delta
        mask = np.abs(base) < delta.threshold
        first = int(delta.before[block]) + _small(delta.base, block * BLOCK, start - block * BLOCK, delta.threshold)
        part = delta.values.storage()[first : first + int(np.count_nonzero(mask))]
        return mask, widen(part, delta.values.spec.dtype.label)


def rounded(threshold: float, label: str) -> np.float32:
    """The threshold in the weight's type, as a comparison there has it."""
    return np.float32(widen(narrow(np.array([threshold], dtype=np.float32), label), label)[0])


def _small(base: StoredTensor, start: int, size: int, threshold: np.float32) -> int:
    part: NDArray[Any] = base.storage()[start : start + size]
    return int(np.count_nonzero(np.abs(widen(part, base.spec.dtype.label)) < threshold))
