"""Single entries of a weight as they shall be: what a patch says of a tensor."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """W = base, but `values` at the flat row-major `indices`: int32 or int64, sorted, unique, within `shape`."""

    indices: StoredTensor
    values: StoredTensor
    shape: tuple[int, ...]
    kind = "sparse"

    @property
    def nbytes(self) -> int:
        return self.indices.spec.nbytes + self.values.spec.nbytes

    @property
    def open_bytes(self) -> int:
        """A search in indices that are not aligned would copy them for every chunk, so they are copied once."""
        return 0 if self.indices.storage().flags.aligned else self.indices.spec.nbytes

    def open(self) -> "SparseLoader":
        indices = np.require(self.indices.storage(), requirements="A")
        return SparseLoader(indices, self.values.storage(), self.values.spec.dtype.label)


@dataclass(frozen=True, slots=True, eq=False)
class SparseLoader:
    """Finds a chunk's entries by bisection; nothing dense is made beside the chunk itself."""

    indices: NDArray[Any]
    raw: NDArray[Any]
    label: str

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a sparse delta without a base"
        places, values = self._entries(start, out.size)
        out[:] = base
        out[places] = values

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a sparse delta without a base"
        places, values = self._entries(start, out.size)
        out[:] = 0.0
        out[places] = values - base[places]

    def _entries(self, start: int, size: int) -> tuple[NDArray[Any], Rows]:
        """Places within the chunk, and the float32 values there."""
        first, end = self._before(start), self._before(start + size)
        return self.indices[first:end].astype(np.int64) - start, widen(self.raw[first:end], self.label)

    def _before(self, element: int) -> int:
        """How many indices are below `element`; numpy copies the indices for a bound of another type."""
        bound = np.iinfo(self.indices.dtype).max
        return (
            self.indices.size
            if element > bound
            else int(np.searchsorted(self.indices, self.indices.dtype.type(element)))
        )
