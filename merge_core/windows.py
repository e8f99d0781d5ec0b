"""Chunks of stored tensors in a little memory of one thread, read from their files.

Mapping pages and giving them back costs twice as much as copying them into a cache, unless they are looked at again.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import Floats
from kernels.stored_elements import Stored
from kernels.stored_rows import StoredRows
from merge_core.stored import StoredTensor

LEAST_BYTES = 1 << 16
MOST_BYTES = 1 << 22
"""Chunks of fewer bytes are not worth a call, of more no memory beside the mapped one."""


def window_bytes(tensor: StoredTensor, elements: int) -> int:
    """Memory that a window of so many elements takes."""
    nbytes = min(elements, tensor.spec.size) * tensor.spec.dtype.itemsize
    return nbytes if tensor.reader is not None and LEAST_BYTES <= nbytes <= MOST_BYTES else 0


class Windows:
    """Stored tensors of one size that one thread goes through together, the base first where there is one.

    Where a survey has gone before, files are mapped, and chunks are looked at where they lie.
    """

    def __init__(self, tensors: Sequence[StoredTensor], elements: int, surveyed: bool, has_base: bool) -> None:
        self._windows = [Window(tensor, elements, surveyed) for tensor in tensors]
        self._has_base = has_base
        is_mapped = not any(window.is_read for window in self._windows)
        self._whole = self._rows(0, tensors[0].spec.size, None, None) if is_mapped else None

    def rows(self, start: int, size: int, room: Floats, base_room: Floats) -> tuple[StoredRows, StoredRows | None]:
        """Elements [start, start + size) of the models, less the base's, and these; valid until the next call."""
        if self._whole is None:
            return self._rows(start, size, room, base_room)
        models, base = self._whole
        return models.run(start, size, room), None if base is None else base.run(start, size, base_room)

    def _rows(
        self, start: int, size: int, room: Floats | None, base_room: Floats | None
    ) -> tuple[StoredRows, StoredRows | None]:
        stored = [window.stored(start, size) for window in self._windows]
        if not self._has_base:
            return StoredRows.of(stored, None, room), None
        return StoredRows.of(stored[1:], stored[0], room), StoredRows.of(stored[:1], None, base_room)


class Window:
    """A stored tensor that one thread goes through in chunks of up to so many elements."""

    def __init__(self, tensor: StoredTensor, elements: int, surveyed: bool) -> None:
        self.label = tensor.spec.dtype.label
        self._tensor, self._whole = tensor, tensor.storage()
        self.is_read = not surveyed and window_bytes(tensor, elements) > 0 and tensor.can_read()
        self._room = np.empty(elements if self.is_read else 0, self._whole.dtype)

    def read(self, start: int, size: int) -> NDArray[Any]:
        """Elements [start, start + size) as they are stored, valid until the next call."""
        if not self.is_read:
            return self._whole[start : start + size]
        found = self._room[:size]
        self._tensor.read_into(found, start)
        return found

    def stored(self, start: int, size: int) -> Stored:
        """The same with the label of their dtype, as kernels take it."""
        return self.read(start, size), self.label
