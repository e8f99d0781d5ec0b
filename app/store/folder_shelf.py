"""Blobs as files of a folder on this machine."""

import time
from collections.abc import Iterator
from pathlib import Path

from app.store.files import PARTIAL, place
from merge_core.errors import NotFoundError

PIECE_BYTES = 1 << 20
BROKEN_OFF_S = 3600


class FolderShelf:
    """A file for each blob, complete under its name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, source: Path, digest: str) -> None:
        """A rename where source and folder share a disk, else a copy that is renamed when it is complete."""
        target = self.path(digest)
        if target.exists():
            source.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        source.chmod(0o444)
        place(source, target)

    def fetch(self, digest: str) -> Path:
        """The file itself."""
        path = self.path(digest)
        if not path.exists():
            raise missing(digest)
        return path

    def outline(self, digest: str) -> Path:
        """The file itself."""
        return self.fetch(digest)

    def size(self, digest: str) -> int | None:
        """From the file."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """From the file, opened at once so that a missing blob raises here and not half way."""
        return pieces(self.fetch(digest), start, stop)

    def remove(self, digest: str) -> None:
        """Unlink."""
        self.path(digest).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Copies from another disk that were broken off; another service may be making one in the same folder."""
        oldest = time.time() - BROKEN_OFF_S
        for partial in self._folder.glob(f"*/*{PARTIAL}"):
            if partial.stat().st_mtime < oldest:
                partial.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is held."""

    def path(self, digest: str) -> Path:
        """Where the blob is, or would be."""
        return self._folder / digest[:2] / digest


def missing(digest: str) -> NotFoundError:
    """No such blob."""
    return NotFoundError("no such blob", where="sha256", found=digest)


def pieces(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of a file from `start` up to `stop`, piece by piece."""
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE_BYTES, stop - start))):
            start += len(piece)
            yield piece
