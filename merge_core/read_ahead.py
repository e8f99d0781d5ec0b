"""Asking the system for mapped bytes before they are needed, so that the disk works while the processors do."""

import ctypes
import mmap
from typing import Any

from numpy.typing import NDArray

_PAGE = mmap.PAGESIZE
_WILL_NEED = mmap.MADV_WILLNEED
_LIBC = ctypes.CDLL(None)
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def will_need(data: NDArray[Any]) -> None:
    """Have the bytes of a mapped file read in the background; a hint, which costs little where they are here."""
    if data.nbytes and not is_present(data):
        first = data.ctypes.data // _PAGE * _PAGE
        _LIBC.madvise(first, data.ctypes.data + data.nbytes - first, _WILL_NEED)


def is_present(data: NDArray[Any]) -> bool:
    """Whether the last page of the bytes is in memory; true where the system does not tell."""
    last = (data.ctypes.data + data.nbytes - 1) // _PAGE * _PAGE
    page = ctypes.create_string_buffer(1)
    return _LIBC.mincore(last, 1, page) != 0 or bool(page.raw[0] & 1)
