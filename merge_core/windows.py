"""Chunks of stored tensors in a little memory of one thread, read from their files.

Mapping pages and giving them back costs twice as much as copying them into a cache, unless they are looked at again.
"""

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.stored_elements import Stored
from merge_core.errors import FileError
from merge_core.stored import StoredTensor

LEAST_BYTES = 1 << 16
MOST_BYTES = 1 << 22
"""Chunks of fewer bytes are not worth a file's opening, of more no memory beside the mapped one."""


def window_bytes(tensor: StoredTensor, elements: int) -> int:
    """Memory that a window of so many elements takes."""
    nbytes = min(elements, tensor.spec.size) * tensor.spec.dtype.itemsize
    return nbytes if tensor.inode is not None and LEAST_BYTES <= nbytes <= MOST_BYTES else 0


class Window:
    """A stored tensor that one thread goes through in chunks of up to so many elements.

    Where a survey has gone before, the file is mapped, and chunks are looked at where they lie.
    """

    def __init__(self, tensor: StoredTensor, elements: int, surveyed: bool) -> None:
        self.label = tensor.spec.dtype.label
        self._tensor = tensor
        self._whole = tensor.storage()
        self._descriptor: int | None = None
        self._is_read = not surveyed and window_bytes(tensor, elements) > 0
        self._room = np.empty(elements if self._is_read else 0, self._whole.dtype)

    def read(self, start: int, size: int) -> NDArray[Any]:
        """Elements [start, start + size) as they are stored, valid until the next call."""
        if self._is_read and self._descriptor is None:
            self._descriptor = _opened(self._tensor)
            self._is_read = self._descriptor is not None
        if self._descriptor is None:
            return self._whole[start : start + size]
        found = self._room[:size]
        self._fill(self._descriptor, found.view(np.uint8).data, self._tensor.begin + start * found.itemsize)
        return found

    def _fill(self, descriptor: int, view: memoryview, place: int) -> None:
        while view:
            read = os.preadv(descriptor, [view], place)
            if read == 0:
                where = f"{self._tensor.file}: tensor '{self._tensor.spec.name}'"
                raise FileError("the file was cut short while it was read", where=where, expected="a file at rest")
            view, place = view[read:], place + read

    def stored(self, start: int, size: int) -> Stored:
        """The same with the label of their dtype, as kernels take it."""
        return self.read(start, size), self.label

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)


def _opened(tensor: StoredTensor) -> int | None:
    """The tensor's file, if it can be opened and is still the one that is mapped: another may have its name by now."""
    assert tensor.path is not None, "a file whose inode is known has a path"
    try:
        descriptor = os.open(tensor.path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(descriptor)
    if (found.st_dev, found.st_ino) == tensor.inode:
        return descriptor
    os.close(descriptor)
    return None
