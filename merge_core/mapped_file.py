"""Files looked at where they are mapped: piece by piece their pages come into the process, and go out of it again.

Asked for in large pages, a file that is read from the disk stays in memory in those, and mapping it takes a tenth to
a twentieth of what it takes with pages of 4 KiB, now and as long as it stays there.
"""

import ctypes
import mmap
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from merge_core.errors import FileError
from merge_core.stored import StoredTensor

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None)
_LIBC.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def map_file(path: Path) -> NDArray[np.uint8]:
    """The bytes of a file that is not empty, read when they are looked at."""
    with path.open("rb") as stream:
        mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    with suppress(OSError):  # a system may have pages of one size alone
        mapping.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(mapping, dtype=np.uint8)


def refuse_cut(tensor: StoredTensor) -> None:
    """FileError for a tensor of a file that has been cut short since it was mapped: looked at, it ends the process."""
    mapping = _map_of(tensor.data)
    if mapping is not None and mapping.size() < len(mapping):
        where, found = f"{tensor.file}: tensor '{tensor.spec.name}'", f"{mapping.size()} bytes"
        message = "the file was cut short while it was read"
        raise FileError(message, where=where, found=found, expected=f"{len(mapping)} bytes, as at first")


def leave(tensor: StoredTensor, start: int, stop: int) -> None:
    """Take whole pages of elements [start, stop) out of the process; they stay in the system's cache.

    Left to the end of the process, one thread takes all of them out while the others wait. Memory that is no mapped
    file would be lost: it is left alone.
    """
    data = tensor.between(start, stop)
    if _map_of(data) is None:
        return
    first = -(-data.ctypes.data // _PAGE) * _PAGE
    last = (data.ctypes.data + data.nbytes) // _PAGE * _PAGE
    if last > first:
        _LIBC.madvise(first, last - first, mmap.MADV_DONTNEED)


def _map_of(data: NDArray[np.uint8]) -> mmap.mmap | None:
    owner: object = data
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return owner if isinstance(owner, mmap.mmap) else None
