"""Blobs as objects in a bucket, with a folder of those that this machine has needed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import obstore
from obstore.exceptions import NotFoundError as ObjectMissingError
from obstore.store import from_url

from app.store.cache import Cache
from app.store.files import PARTIAL
from app.store.folder_shelf import PIECE_BYTES, missing
from merge_core.errors import FileError, NotFoundError
from merge_core.formats.safetensors_header import Header, header_length, parse_header

SMALLEST_PART_BYTES = 8 << 20
READ_BYTES = 8 * PIECE_BYTES
OUTLINED_BYTES = 64 << 20
"""A smaller file is fetched whole; and of a larger one, no more than this beside its header."""
OUTLINES_SHARE = 8
"""One part in so many of the cache is for outlines."""


class ObjectShelf:
    """Keeps objects, and on this machine what was used last: whole files, and outlines of them."""

    def __init__(self, url: str, cache: Path, most_bytes: int, *, holds: bool) -> None:
        self._objects = from_url(url)
        self._cache = Cache(cache / "blobs", most_bytes, holds=holds)
        self._outlines = Cache(cache / "outlines", most_bytes // OUTLINES_SHARE, holds=holds)
        self._arrivals = cache / "arriving"

    def take(self, source: Path, digest: str) -> None:
        """Send it, then keep it in the cache: what was just made is often read next."""
        if self.size(digest) is None:
            obstore.put(self._objects, _key(digest), source, chunk_size=_part_bytes(source))
        self._cache.take(source, digest)

    def fetch(self, digest: str) -> Path:
        """From the cache, or downloaded into it and checked."""
        try:
            return self._cache.fetch(digest)
        except NotFoundError:
            self._download(digest)
            return self._cache.fetch(digest)

    def outline(self, digest: str) -> Path:
        """A checkpoint's file with its header, and all that is no weight; the weights are holes.

        What planning reads, by ranges of the object. The whole file where it is in the cache, small, or no checkpoint.
        """
        for shelf in (self._cache, self._outlines):
            with suppress(NotFoundError):
                return shelf.fetch(digest)
        return self._outlines.fetch(digest) if self._outline(digest) else self.fetch(digest)

    def size(self, digest: str) -> int | None:
        """As the object store says."""
        try:
            return int(obstore.head(self._objects, _key(digest))["size"])
        except (ObjectMissingError, FileNotFoundError):
            return None

    def read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """From the cache where it is there, else by ranges of the object."""
        if self._cache.size(digest) is not None:
            yield from self._cache.read(digest, start, stop)
            return
        for begin in range(start, stop, READ_BYTES):
            yield self._range(digest, begin, min(begin + READ_BYTES, stop))

    def remove(self, digest: str) -> None:
        """Both the object and the cached files."""
        self._cache.remove(digest)
        self._outlines.remove(digest)
        obstore.delete(self._objects, _key(digest))

    def tidy(self) -> None:
        """Downloads that were broken off, and what a smaller cache has no room for."""
        shutil.rmtree(self._arrivals, ignore_errors=True)
        self._cache.trim()
        self._outlines.trim()

    def close(self) -> None:
        """Hold no cached file any more."""
        self._cache.close()
        self._outlines.close()

    def _range(self, digest: str, start: int, stop: int) -> bytes:
        return bytes(obstore.get_range(self._objects, _key(digest), start=start, end=stop))

    def _outline(self, digest: str) -> bool:
        """Make the outline; False where the whole file is the better one to have."""
        size = self.size(digest)
        if size is None:
            raise missing(digest)
        if size <= OUTLINED_BYTES:
            return False
        try:
            length = 8 + header_length(self._range(digest, 0, 8), size, digest)
            text = b"".join(self.read(digest, 0, length))
            places = [(0, length), *_no_weights(parse_header(text[8:], size, digest))]
        except FileError:  # planning finds the same in the whole file, and can say of which it is
            return False
        if sum(stop - start for start, stop in places[1:]) > OUTLINED_BYTES:
            return False
        arriving = self._arriving(digest)
        try:
            with arriving.open("wb") as file:
                file.truncate(size)
                for start, stop in places:
                    file.seek(start)
                    file.writelines(self.read(digest, start, stop))
            self._outlines.take(arriving, digest)
        finally:
            arriving.unlink(missing_ok=True)
        return True

    def _download(self, digest: str) -> None:
        arriving = self._arriving(digest)
        try:
            found = _write_pieces(arriving, self._stream(digest))
            if found != digest:
                raise FileError("the object's bytes are not its name's", where="blob", found=found, expected=digest)
            self._cache.take(arriving, digest)
        finally:
            arriving.unlink(missing_ok=True)

    def _arriving(self, digest: str) -> Path:
        self._arrivals.mkdir(parents=True, exist_ok=True)
        return self._arrivals / f"{digest}.{os.urandom(4).hex()}{PARTIAL}"

    def _stream(self, digest: str) -> Iterator[bytes]:
        try:
            answer = obstore.get(self._objects, _key(digest))
        except (ObjectMissingError, FileNotFoundError):
            raise missing(digest) from None
        return (bytes(piece) for piece in answer.stream(min_chunk_size=PIECE_BYTES))


def _no_weights(header: Header) -> Iterator[tuple[int, int]]:
    """The places of what is never averaged, which planning compares."""
    return ((entry.begin, entry.end) for entry in header.entries if not entry.spec.dtype.mergeable)


def _part_bytes(source: Path) -> int:
    """Large enough that the file has fewer than the 10 000 parts that S3 takes."""
    return max(SMALLEST_PART_BYTES, source.stat().st_size // 5_000)


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _write_pieces(path: Path, pieces: Iterator[bytes]) -> str:
    """Write the pieces through to the disk; the sha256 of it all."""
    digest = sha256()
    with path.open("wb") as file:
        for piece in pieces:
            digest.update(piece)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
