"""Uploads on their way to become blobs: files in one folder, gone when they break off or do not match."""

import fcntl
import os
import time
from collections.abc import Callable
from hashlib import file_digest, sha256
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Self

from app.store.files import PARTIAL
from merge_core.errors import CapacityError, ConflictError, FileError

STALE_S = 24 * 3600
ABANDONED_S = 60
"""A moment lies between the making of an upload's file and the lock on it."""
SPARE_BYTES = 64 << 20

Take = Callable[[Path, str], None]
Check = Callable[[Path], None]
Announce = Callable[[str, int], None]
"""Told the sha256 and size of bytes that are about to become a blob."""


class Upload:
    """One upload. Leaving its `with` block without `finish` removes it, unless it is one in parts."""

    def __init__(self, path: Path, take: Take, expected_sha256: str | None, size: int | None, keep: bool) -> None:
        self._path = path
        self._take = take
        self._expected = expected_sha256
        self._size = size
        self._keep = keep
        self._file = _open_alone(path)
        self.received = self._file.tell()
        self._digest = sha256() if self.received == 0 else None  # what came earlier was hashed by another process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._keep:
            self._path.unlink(missing_ok=True)

    @property
    def complete(self) -> bool:
        """True when as many bytes are here as were announced."""
        return self._size is not None and self.received == self._size

    def write(self, piece: bytes) -> None:
        """Add bytes at the end. Raises FileError when they are more than announced."""
        if self._size is not None and self.received + len(piece) > self._size:
            found = f"at least {self.received + len(piece)} bytes"
            raise FileError("more bytes than announced", where="body", found=found, expected=f"{self._size} bytes")
        self._file.write(piece)
        self.received += len(piece)
        if self._digest is not None:
            self._digest.update(piece)

    def finish(
        self, check: Check = lambda path: None, announce: Announce = lambda sha256, size: None
    ) -> tuple[str, int]:
        """Make it a blob; its sha256 and size. `announce` is called before, once nothing speaks against it.

        Raises FileError, and removes it, when either is not as expected, or `check` refuses the complete file.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        self._keep = False
        self._check("size in bytes", self.received, self._size)
        found = self._digest.hexdigest() if self._digest else _hash(self._path)
        self._check("sha256", found, self._expected)
        check(self._path)
        announce(found, self.received)
        self._take(self._path, found)
        return found, self.received

    def _check(self, what: str, found: object, expected: object) -> None:
        if expected is not None and found != expected:
            raise FileError("the upload is not what was announced", where=what, found=found, expected=expected)


class Uploads:
    """The folder of uploads."""

    def __init__(self, folder: Path, take: Take) -> None:
        self._folder = folder
        self._take = take

    def begin(self, sha256: str | None, size: int | None) -> Upload:
        """A new upload, under a name nobody else has."""
        self._make_room(size or 0)
        return Upload(self._folder / f"{os.urandom(16).hex()}{PARTIAL}", self._take, sha256, size, keep=False)

    def resume(self, owner: str, sha256: str, size: int) -> Upload:
        """The owner's upload of this blob, where it was left."""
        self._make_room(size - self.received(owner, sha256))
        return Upload(self._path(owner, sha256), self._take, sha256, size, keep=True)

    def received(self, owner: str, sha256: str) -> int:
        """Bytes here of the owner's upload of this blob."""
        try:
            return self._path(owner, sha256).stat().st_size
        except FileNotFoundError:
            return 0

    def clean(self, abandoned_s: float = ABANDONED_S) -> None:
        """Remove parts that nobody has added to for a day, and of uploads in one go what a dead process has left."""
        moment = time.time()
        for path in self._folder.glob(f"*{PARTIAL}"):
            idle_s = STALE_S if _is_in_parts(path) else abandoned_s
            if moment - _changed_at(path) >= idle_s and not _is_written_to(path):
                path.unlink(missing_ok=True)

    def _path(self, owner: str, digest: str) -> Path:
        return self._folder / f"{sha256(owner.encode()).hexdigest()[:16]}-{digest}{PARTIAL}"

    def _make_room(self, wanted: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        numbers = os.statvfs(self._folder)
        free = numbers.f_bavail * numbers.f_frsize
        if wanted + SPARE_BYTES > free:
            raise CapacityError("not enough disk", where="body", found=f"{free} bytes free", expected=f"{wanted} bytes")


def _is_in_parts(path: Path) -> bool:
    return "-" in path.name


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # finished since
        return time.time()


def _is_written_to(path: Path) -> bool:
    """True while some process holds the upload; the kernel lets go of what a dead one held."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return True
    return False


def _open_alone(path: Path) -> BufferedWriter:
    """The file, for nobody else to write to. It may have become a blob since its name was looked up."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_current = _is_same(file, path)
    except BlockingIOError:
        is_current = False
    if not is_current:
        file.close()
        raise ConflictError("another request is sending this blob", where="sha256")
    return file


def _is_same(file: BufferedWriter, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
