"""Numbers added to single entries of a weight: what a sparse fine-tune says of a tensor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merge_core.deltas.contract import Rows

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class SparseSum:
    """W = base, plus float32 `values` at the flat row-major `indices`: sorted, unique, within `shape`."""

    indices: Indices
    values: Rows
    shape: tuple[int, ...]
    kind = "sparse"
    open_bytes = 0

    @property
    def nbytes(self) -> int:
        return self.indices.nbytes + self.values.nbytes

    def open(self) -> "SparseSumLoader":
        return SparseSumLoader(self.indices, self.values)


@dataclass(frozen=True, slots=True, eq=False)
class SparseSumLoader:
    """Finds a chunk's entries by bisection; nothing dense is made beside the chunk itself."""

    indices: Indices
    values: Rows

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a sparse delta without a base"
        first, end = np.searchsorted(self.indices, (start, start + out.size))
        out[:] = base
        out[self.indices[first:end] - start] += self.values[first:end]

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        first, end = np.searchsorted(self.indices, (start, start + out.size))
        out[:] = 0.0
        out[self.indices[first:end] - start] = self.values[first:end]
