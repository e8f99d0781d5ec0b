"""Files that this machine has needed, of an object store or unpacked: the last used, in a bounded number of bytes."""

import os
import time
from contextlib import suppress
from pathlib import Path

from app.store.file_locks import forgotten, held, touch
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
            if path.name != besides and forgotten(path):
                excess -= nbytes

    def close(self) -> None:
        """Hold nothing any more."""
        while self._held:
            os.close(self._held.popitem()[1])

    def _use(self, digest: str) -> bool:
        """False when somebody has forgotten the file meanwhile."""
        if self._holds and digest not in self._held:
            with suppress(FileNotFoundError):
                self._held[digest] = held(self.path(digest))
        return self._touch(digest)

    def _touch(self, digest: str) -> bool:
        path = self.path(digest)
        try:
            touch(path)
        except FileNotFoundError:
            return False
        return True
