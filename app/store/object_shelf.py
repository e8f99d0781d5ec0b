"""Blobs as objects in a bucket, with a folder of those that this machine has needed."""

from collections.abc import Iterator
from pathlib import Path

import obstore
from obstore.exceptions import NotFoundError as ObjectMissingError
from obstore.store import from_url

from app.store.copies import Copies
from app.store.folder_shelf import PIECE_BYTES, missing

SMALLEST_PART_BYTES = 8 << 20
READ_BYTES = 8 * PIECE_BYTES


class ObjectShelf:
    """Keeps objects, and on this machine what was used last: whole files, and outlines of them."""

    def __init__(self, url: str, copies: Copies) -> None:
        self._objects = from_url(url)
        self._copies = copies

    def take(self, source: Path, digest: str) -> None:
        """Send it, then keep it in the cache: what was just made is often read next."""
        if self.size(digest) is None:
            obstore.put(self._objects, _key(digest), source, chunk_size=_part_bytes(source))
        self._copies.whole.take(source, digest)

    def fetch(self, digest: str) -> Path:
        """From the cache, or downloaded into it and checked."""
        return self._copies.fetch(digest, lambda: self._stream(digest))

    def outline(self, digest: str) -> Path:
        """A checkpoint's file with its header, and all that is no weight; the weights are holes.

        What planning reads, by ranges of the object. The whole file where it is in the cache, small, or no checkpoint.
        """
        return self._copies.kept(digest) or self._outline(digest) or self.fetch(digest)

    def size(self, digest: str) -> int | None:
        """As the object store says."""
        try:
            return int(obstore.head(self._objects, _key(digest))["size"])
        except (ObjectMissingError, FileNotFoundError):
            return None

    def read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """From the cache where it is there, else by ranges of the object."""
        if self._copies.whole.size(digest) is not None:
            yield from self._copies.whole.read(digest, start, stop)
            return
        for begin in range(start, stop, READ_BYTES):
            yield self._range(digest, begin, min(begin + READ_BYTES, stop))

    def remove(self, digest: str) -> None:
        """Both the object and the cached files."""
        self._copies.remove(digest)
        obstore.delete(self._objects, _key(digest))

    def tidy(self) -> None:
        """Downloads that were broken off, and what a smaller cache has no room for."""
        self._copies.tidy()

    def close(self) -> None:
        """Hold no cached file any more."""
        self._copies.close()

    def _outline(self, digest: str) -> Path | None:
        size = self.size(digest)
        if size is None:
            raise missing(digest)
        return self._copies.outline(digest, size, lambda start, stop: self.read(digest, start, stop))

    def _range(self, digest: str, start: int, stop: int) -> bytes:
        return bytes(obstore.get_range(self._objects, _key(digest), start=start, end=stop))

    def _stream(self, digest: str) -> Iterator[bytes]:
        try:
            answer = obstore.get(self._objects, _key(digest))
        except (ObjectMissingError, FileNotFoundError):
            raise missing(digest) from None
        return (bytes(piece) for piece in answer.stream(min_chunk_size=PIECE_BYTES))


def _part_bytes(source: Path) -> int:
    """Large enough that the file has fewer than the 10 000 parts that S3 takes."""
    return max(SMALLEST_PART_BYTES, source.stat().st_size // 5_000)


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest}"
