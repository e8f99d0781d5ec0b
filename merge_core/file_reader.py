"""Reading a file that is mapped as well, by one descriptor for all threads.

The system reads ahead of each descriptor, and what it reads for one that goes through its file it keeps in large
pages. A hint, or a descriptor for each piece of work, leaves small ones: mapping these takes twenty times as long, and
copying them half as long again, as long as they stay in memory.
"""

import os
from pathlib import Path
from threading import Lock

from merge_core.errors import FileError


class FileReader:
    """The file at `path`, whose `inode` is the numbers of its device and of itself."""

    def __init__(self, path: Path, inode: tuple[int, int]) -> None:
        self._path, self._inode = path, inode
        self._descriptor: int | None = None
        self._is_known, self._lock = False, Lock()

    def can_read(self) -> bool:
        """Whether the file can be opened and is still the one that is mapped: another may have its name by now."""
        with self._lock:
            if not self._is_known:
                self._descriptor, self._is_known = self._opened(), True
        return self._descriptor is not None

    def fill(self, view: memoryview, place: int, where: str) -> None:
        """The bytes from `place` on, once it `can_read`; FileError, naming `where`, for a file that ends before."""
        assert self._descriptor is not None, "who reads has asked whether it can"
        while view:
            read = os.preadv(self._descriptor, [view], place)
            if read == 0:
                raise FileError("the file was cut short while it was read", where=where, expected="a file at rest")
            view, place = view[read:], place + read

    def _opened(self) -> int | None:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        found = os.fstat(descriptor)
        if (found.st_dev, found.st_ino) == self._inode:
            return descriptor
        os.close(descriptor)
        return None

    def __del__(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
