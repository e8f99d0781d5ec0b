"""Uploads whose parts come in any order and side by side: one file of the whole size, each part written in its place.

Nothing is remembered of which parts are here: the hash of the whole says whether all of them are. Whoever writes locks
the file together with the others for one piece at a time, whoever completes it locks it alone, and both look whether it
is still the file of that name. So a writer that comes late cannot touch what has become a blob.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from app.store.files import PARTIAL
from app.store.uploads import SPARE_BYTES, Announce, Take
from merge_core.errors import CapacityError, ConflictError, FileError, NotFoundError

BLOCK_BYTES = 512
"""The unit in which the system says how much of a file is on the disk."""


class Part:
    """One part on its way, from `start` up to `stop` of the whole."""

    def __init__(self, path: Path, size: int, start: int, stop: int) -> None:
        self._path = path
        self._stop = stop
        self._place = start
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            with _locked(self._descriptor, path, fcntl.LOCK_SH):
                os.ftruncate(self._descriptor, size)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def missing(self) -> int:
        """Bytes still to come."""
        return self._stop - self._place

    def write(self, piece: bytes) -> None:
        """Add bytes after those before. Raises FileError when they are more than the part has."""
        if len(piece) > self.missing:
            raise FileError("more bytes than the part has", where="body", found=len(piece), expected=self.missing)
        with _locked(self._descriptor, self._path, fcntl.LOCK_SH):
            _write_at(self._descriptor, piece, self._place)
        self._place += len(piece)


class PartsFolder:
    """The uploads in parts of one folder."""

    def __init__(self, folder: Path, take: Take) -> None:
        self._folder = folder
        self._take = take

    def open(self, owner: str, digest: str, size: int, start: int, stop: int) -> Part:
        """A part of the owner's upload of this blob; an earlier try at it is written over."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(owner, digest, size)
        self._make_room(path, size)
        return Part(path, size, start, stop)

    def complete(self, owner: str, digest: str, size: int, announce: Announce) -> None:
        """Make it a blob, once its hash is found to be right.

        Raises NotFoundError when no part is here, ConflictError while somebody else is at it, and FileError for
        another hash: then all parts are gone.
        """
        path = self._path(owner, digest, size)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            raise NotFoundError("no part of this upload is here", where="oid", found=digest) from None
        try:
            with _locked(descriptor, path, fcntl.LOCK_EX):
                _check(descriptor, path, digest)
                announce(digest, size)
                self._take(path, digest)
        finally:
            os.close(descriptor)

    def _path(self, owner: str, digest: str, size: int) -> Path:
        """The dash says that it waits for more: see `Uploads.clean`."""
        return self._folder / f"{sha256(owner.encode()).hexdigest()[:16]}-{digest}-{size}{PARTIAL}"

    def _make_room(self, path: Path, size: int) -> None:
        try:
            wanted = size - path.stat().st_blocks * BLOCK_BYTES
        except FileNotFoundError:
            wanted = size
        numbers = os.statvfs(self._folder)
        free = numbers.f_bavail * numbers.f_frsize
        if wanted + SPARE_BYTES > free:
            raise CapacityError("not enough disk", where="body", found=f"{free} bytes free", expected=f"{wanted} bytes")


@contextmanager
def _locked(descriptor: int, path: Path, how: int) -> Iterator[None]:
    """Holds a lock on the file, as long as it is the one of this name."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ConflictError("another request is at this upload", where="oid") from None
    try:
        if not _is_at(descriptor, path):
            raise ConflictError("this upload was completed or thrown away meanwhile", where="oid")
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_at(descriptor: int, piece: bytes, place: int) -> None:
    left = memoryview(piece)
    while left:
        written = os.pwrite(descriptor, left, place)
        left, place = left[written:], place + written


def _check(descriptor: int, path: Path, digest: str) -> None:
    """Raises FileError, and throws the parts away, when they are not what was announced."""
    os.fsync(descriptor)
    with os.fdopen(os.dup(descriptor), "rb") as file:
        file.seek(0)
        found = file_digest(file, "sha256").hexdigest()
    if found != digest:
        path.unlink()
        raise FileError("the parts are not what was announced", where="sha256", found=found, expected=digest)
