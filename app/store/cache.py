"""Files of an object store that this machine has needed, the ones used last, in a bounded number of bytes."""

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from app.store.folder_shelf import FolderShelf, missing

RECENT_S = 60.0
"""Whoever has asked for a file opens it by then; an open file outlives its name."""
BLOCK_BYTES = 512


class Cache(FolderShelf):
    """A folder of blobs that forgets the one that was not used for longest when there are too many bytes.

    Files that a job works with are never forgotten: each process that `holds` what it fetches keeps a lock on the
    file, which the kernel lets go of when the process ends.
    """

    def __init__(self, folder: Path, most_bytes: int, *, holds: bool) -> None:
        super().__init__(folder)
        self._most_bytes = most_bytes
        self._holds = holds
        self._held: dict[str, int] = {}

    def take(self, source: Path, digest: str) -> None:
        """Keep the file; others may have to go for it."""
        super().take(source, digest)
        self._touch(digest)  # not held: whoever has just written it may have a lock of another kind on it
        self.trim(besides=digest)

    def fetch(self, digest: str) -> Path:
        """The file; not the next to be forgotten."""
        path = super().fetch(digest)
        if not self._use(digest):
            raise missing(digest)
        return path

    def trim(self, besides: str = "") -> None:
        """Forget files `besides` one until the rest fits."""
        files = []
        for path in self._folder.glob("*/*"):
            with suppress(FileNotFoundError):  # another process forgets too
                facts = path.stat()
                files.append((facts.st_atime, facts.st_blocks * BLOCK_BYTES, path))
        excess = sum(nbytes for _, nbytes, _ in files) - self._most_bytes
        for used_at, nbytes, path in sorted(files):
            if excess <= 0 or used_at > time.time() - RECENT_S:
                return
            if path.name != besides and _forgotten(path):
                excess -= nbytes

    def close(self) -> None:
        """Hold nothing any more."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _use(self, digest: str) -> bool:
        """False when somebody has forgotten the file meanwhile."""
        if self._holds and digest not in self._held:
            with suppress(FileNotFoundError):
                self._held[digest] = _held(self.path(digest))
        return self._touch(digest)

    def _touch(self, digest: str) -> bool:
        path = self.path(digest)
        try:
            os.utime(path, (time.time(), path.stat().st_mtime))
        except FileNotFoundError:
            return False
        return True


def _held(path: Path) -> int:
    """A descriptor whose lock keeps the file. Raises FileNotFoundError where the file went before it had the lock."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if not os.path.samestat(os.fstat(descriptor), path.stat()):
            raise FileNotFoundError(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _forgotten(path: Path) -> bool:
    """True when nobody held the file, which is then gone."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
    except FileNotFoundError:
        return True
    except BlockingIOError:
        return False
    return True
