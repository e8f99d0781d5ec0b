"""Some rows of a weight as they shall be: the embeddings of the tokens that an adapter trains."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class RowReplacement:
    """W = base, but row `rows[k]` is `values[order[k]]`; `rows` is int64, sorted and unique, within `shape`."""

    rows: NDArray[np.int64]
    order: NDArray[np.int64]
    values: StoredTensor
    shape: tuple[int, ...]
    kind = "rows"
    open_bytes = 0

    @property
    def nbytes(self) -> int:
        return self.values.spec.nbytes

    def fit(self, shape: tuple[int, ...]) -> "RowReplacement | None":
        """The same rows of a weight that has them; None for one with fewer rows, or rows of another length."""
        fits = len(shape) == len(self.shape) and shape[1:] == self.shape[1:] and shape[0] >= self.shape[0]
        return replace(self, shape=shape) if fits else None

    def open(self) -> "RowReplacementLoader":
        return RowReplacementLoader(self, self.values.storage().reshape(self.values.spec.shape), prod(self.shape[1:]))


@dataclass(frozen=True, slots=True, eq=False)
class RowReplacementLoader:
    """Finds a chunk's rows by bisection; a chunk may begin and end within a row."""

    delta: RowReplacement
    raw: NDArray[np.generic]
    length: int

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses replaced rows without a base"
        out[:] = base
        stop, rows = start + out.size, self.delta.rows
        first, last = start // self.length, (stop - 1) // self.length
        for place in range(int(np.searchsorted(rows, first)), int(np.searchsorted(rows, last, side="right"))):
            begin = int(rows[place]) * self.length
            lo, hi = max(begin, start), min(begin + self.length, stop)
            value = self.raw[int(self.delta.order[place])].reshape(-1)[lo - begin : hi - begin]
            widen(value, self.delta.values.spec.dtype.label, out[lo - start : hi - start])

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses it without a base"
        self.load_weight(out, start, base)
        out -= base
