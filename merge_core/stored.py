"""A tensor where it lies: its spec and a read-only view of its bytes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.storage import storage_dtype
from kernels.stored_elements import Stored
from merge_core.tensors import DType, TensorSpec

COMPARED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """One tensor of a file; `data` is a uint8 view of the mapped file, so nothing is read before it is used.

    `path` and `begin` say which of the file's bytes these are, where it is a file that somebody may know.
    """

    spec: TensorSpec
    data: NDArray[np.uint8]
    file: str
    path: Path | None = None
    begin: int = 0

    def storage(self) -> NDArray[Any]:
        """The elements as the kernels take them: 1-D, uint16 for bfloat16 and float16; need not be aligned."""
        return self.data.view(_storage_type(self.spec.dtype))

    def labelled(self) -> Stored:
        """The elements with the label of their dtype."""
        return self.storage(), self.spec.dtype.label

    def between(self, start: int, stop: int) -> NDArray[np.uint8]:
        """The bytes of elements [start, stop)."""
        return self.data[start * self.spec.dtype.itemsize : stop * self.spec.dtype.itemsize]


def _storage_type(dtype: DType) -> np.dtype[Any]:
    """numpy's type for the stored elements; float8 stays raw bytes."""
    if dtype.mergeable:
        return storage_dtype(dtype.label)
    return np.dtype(np.uint8) if dtype.kind == "float" else np.dtype(dtype.label)


def same_values(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two stored tensors are equal in dtype, shape and bytes; compared in small runs."""
    if (one.spec.dtype, one.spec.shape) != (other.spec.dtype, other.spec.shape):
        return False
    runs = (slice(start, start + COMPARED_BYTES) for start in range(0, one.spec.nbytes, COMPARED_BYTES))
    return all(np.array_equal(one.data[run], other.data[run]) for run in runs)
