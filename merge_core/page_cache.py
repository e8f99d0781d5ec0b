"""Bytes of mapped files in memory: brought there before they are looked at, and left afterwards."""

import ctypes
import mmap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from merge_core.stored import StoredTensor

_PAGE = mmap.PAGESIZE
_DONE = mmap.MADV_DONTNEED

STEP = 1 << 19
"""Bytes read at a time: few enough for the caches."""

_LIBC = ctypes.CDLL(None)
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def bring_in(tensor: StoredTensor, start: int, stop: int) -> None:
    """Read elements [start, stop) of a mapped file that are not in memory: looked at, they would come one by one."""
    elements = tensor.storage()[start:stop]
    if not elements.nbytes or is_present(elements) or not tensor.can_read():
        return
    room = np.empty(min(STEP // elements.itemsize, elements.size), elements.dtype)
    for done in range(0, elements.size, room.size):
        tensor.read_into(room[: elements.size - done], start + done)


def leave(data: NDArray[Any]) -> None:
    """Take whole pages of mapped bytes out of the process; they stay in the system's cache, and may be read again.

    Left to the end of the process, one thread takes all of them out while the others wait. Memory that is no mapped
    file would be lost: it is left alone.
    """
    if not _is_of_map(data):
        return
    first = -(-data.ctypes.data // _PAGE) * _PAGE
    last = (data.ctypes.data + data.nbytes) // _PAGE * _PAGE
    if last > first:
        _LIBC.madvise(first, last - first, _DONE)


def _is_of_map(data: NDArray[Any]) -> bool:
    owner: object = data
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return isinstance(owner, mmap.mmap)


def is_present(data: NDArray[Any]) -> bool:
    """Whether the last page of the bytes is in memory; true where the system does not tell."""
    last = (data.ctypes.data + data.nbytes - 1) // _PAGE * _PAGE
    page = ctypes.create_string_buffer(1)
    return _LIBC.mincore(last, 1, page) != 0 or bool(page.raw[0] & 1)
