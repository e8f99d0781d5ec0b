"""A tensor where it lies: its spec and a read-only view of its bytes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.storage import storage_dtype
from merge_core.file_reader import FileReader
from merge_core.tensors import DType, TensorSpec

COMPARED_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class StoredTensor:
    """One tensor of a file; `data` is a uint8 view of the mapped file, so nothing is read before it is used.

    `path` and `begin` say which of the file's bytes these are, where it is a file that somebody may know; it has a
    `reader` where the bytes in the file are the elements.
    """

    spec: TensorSpec
    data: NDArray[np.uint8]
    file: str
    path: Path | None = None
    begin: int = 0
    reader: FileReader | None = None

    def storage(self) -> NDArray[Any]:
        """The elements as the kernels take them: 1-D, uint16 for bfloat16 and float16; need not be aligned."""
        return self.data.view(_storage_type(self.spec.dtype))

    def can_read(self) -> bool:
        """Whether the elements can be read beside being mapped."""
        return self.reader is not None and self.reader.can_read()

    def read_into(self, room: NDArray[Any], start: int) -> None:
        """Fill `room`, of the storage's type, with the elements from `start` on, once it is known that they can be."""
        assert self.reader is not None, "who reads has asked whether it can"
        place, where = self.begin + start * room.itemsize, f"{self.file}: tensor '{self.spec.name}'"
        self.reader.fill(room.view(np.uint8).data, place, where)


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
