"""Copies on this machine of blobs that are kept elsewhere or packed: whole ones, and outlines of checkpoints."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from app.store.cache import Cache
from app.store.files import PARTIAL
from app.store.outlines import Read, write_outline
from merge_core.errors import FileError, NotFoundError

OUTLINES_SHARE = 8
"""One part in so many of the bytes is for outlines."""


class Copies:
    """What was used last, in a bounded number of bytes. With `holds`, what was fetched stays until the process ends."""

    def __init__(self, folder: Path, most_bytes: int, *, holds: bool) -> None:
        self.whole = Cache(folder / "blobs", most_bytes, holds=holds)
        self._outlines = Cache(folder / "outlines", most_bytes // OUTLINES_SHARE, holds=holds)
        self._arrivals = folder / "arriving"

    def fetch(self, digest: str, open_pieces: Callable[[], Iterable[bytes | memoryview]]) -> Path:
        """The copy, made of the pieces where there is none. Raises FileError when they are not the blob's."""
        with suppress(NotFoundError):
            return self.whole.fetch(digest)
        with self._arriving(digest) as path:
            found = _write_pieces(path, open_pieces())
            if found != digest:
                raise FileError("the blob's bytes are not its name's", where="blob", found=found, expected=digest)
            self.whole.take(path, digest)
        return self.whole.fetch(digest)

    def kept(self, digest: str) -> Path | None:
        """What is here already, a whole file or an outline."""
        for cache in (self.whole, self._outlines):
            with suppress(NotFoundError):
                return cache.fetch(digest)
        return None

    def outline(self, digest: str, size: int, read: Read) -> Path | None:
        """What planning reads of a checkpoint, from its ranges. None where the whole file is wanted."""
        with self._arriving(digest) as path:
            if not write_outline(path, digest, size, read):
                return None
            self._outlines.take(path, digest)
        return self._outlines.fetch(digest)

    def remove(self, digest: str) -> None:
        """Forget the blob's."""
        self.whole.remove(digest)
        self._outlines.remove(digest)

    def tidy(self) -> None:
        """Remove what was broken off, and what a smaller cache has no room for."""
        shutil.rmtree(self._arrivals, ignore_errors=True)
        self.whole.trim()
        self._outlines.trim()

    def close(self) -> None:
        """Hold none any more."""
        self.whole.close()
        self._outlines.close()

    @contextmanager
    def _arriving(self, digest: str) -> Iterator[Path]:
        self._arrivals.mkdir(parents=True, exist_ok=True)
        path = self._arrivals / f"{digest}.{os.urandom(4).hex()}{PARTIAL}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _write_pieces(path: Path, pieces: Iterable[bytes | memoryview]) -> str:
    """Write the pieces through to the disk; the sha256 of it all."""
    digest = sha256()
    with path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
