"""Blobs: bytes by their sha256, in a folder or an object store. A name in it means complete, checked bytes."""

import os
import shutil
import time
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.exceptions import NotFoundError as ObjectMissingError
from obstore.store import from_url

from app.settings import Settings
from app.store.files import PARTIAL, place
from app.store.uploads import Announce, Upload, Uploads
from merge_core.errors import FileError, NotFoundError

PIECE_BYTES = 1 << 20
SMALLEST_PART_BYTES = 8 << 20
BROKEN_OFF_S = 3600
NO_BYTES = sha256().hexdigest()


class Shelf(Protocol):
    """Where blobs are kept."""

    def take(self, source: Path, digest: str) -> None:
        """Keep the bytes of `source`, whose hash is known; the file is gone afterwards."""

    def fetch(self, digest: str) -> Path:
        """A local file with the bytes. Raises NotFoundError."""

    def size(self, digest: str) -> int | None:
        """In bytes; None when it is not here."""

    def read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a range, piece by piece."""

    def remove(self, digest: str) -> None:
        """Forget the blob; fine when it is not here."""

    def tidy(self) -> None:
        """Remove what is half way in, of processes that are gone."""


class Blobs:
    """The service's blobs. The database says who may read one; here it only matters whether it exists."""

    def __init__(self, settings: Settings) -> None:
        self._shelf = _shelf(settings.blob_url, settings.data)
        self._uploads = Uploads(settings.uploads, self._shelf.take)
        self._uploads_folder = settings.uploads

    def put_file(
        self,
        path: Path,
        expected_sha256: str | None = None,
        announce: Announce = lambda sha256, size: None,
    ) -> tuple[str, int]:
        """Move a complete local file in; its sha256 and size. FileError when the hash is not the expected one."""
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        if expected_sha256 is not None and digest != expected_sha256:
            raise FileError("the bytes are not those expected", where=path.name, found=digest, expected=expected_sha256)
        size = path.stat().st_size
        announce(digest, size)
        self._shelf.take(path, digest)
        return digest, size

    def put_bytes(self, data: bytes, announce: Announce = lambda sha256, size: None) -> tuple[str, int]:
        """Keep a small file's bytes; its sha256 and size."""
        with self.open_upload() as upload:
            upload.write(data)
            return upload.finish(announce=announce)

    def open_upload(self, sha256: str | None = None, size: int | None = None) -> Upload:
        """An upload in one go, removed when it breaks off. `sha256` and `size` are checked where given."""
        return self._uploads.begin(sha256, size)

    def resume_upload(self, owner: str, sha256: str, size: int) -> Upload:
        """An upload in parts: what the owner has sent of this blob so far, kept when it breaks off.

        Raises ConflictError while another request is writing to it.
        """
        return self._uploads.resume(owner, sha256, size)

    def received(self, owner: str, sha256: str) -> int:
        """How many bytes of an upload in parts are here."""
        return self._uploads.received(owner, sha256)

    def clean_uploads(self) -> None:
        """Remove parts that nobody has added to for a day, and what dead processes have left of other uploads."""
        self._uploads.clean()

    def tidy(self) -> None:
        """Remove whatever processes that were killed have left. Only while nobody is at work in this data folder."""
        self._uploads.clean(abandoned_s=0)
        self._shelf.tidy()

    def local_path(self, sha256: str) -> Path:
        """A file on this machine with the blob's bytes, not to be written to. Raises NotFoundError."""
        return self._shelf.fetch(sha256)

    def read(self, sha256: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, piece by piece."""
        return self._shelf.read(sha256, start, self._require_size(sha256) if stop is None else stop)

    def size(self, sha256: str) -> int | None:
        """In bytes; None when it is not here."""
        return self._shelf.size(sha256)

    def exists(self, sha256: str) -> bool:
        """True when the bytes are here."""
        return self._shelf.size(sha256) is not None

    def check(self) -> None:
        """Raises OSError when the place where blobs are kept does not answer."""
        try:
            self._shelf.size(NO_BYTES)
        except BaseError as error:
            raise OSError(f"the object store does not answer: {error}") from error

    def delete(self, sha256: str) -> None:
        """Remove the bytes; fine when they are not here."""
        self._shelf.remove(sha256)

    def _require_size(self, digest: str) -> int:
        size = self._shelf.size(digest)
        if size is None:
            raise _missing(digest)
        return size


class FolderShelf:
    """Blobs as files of a folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, source: Path, digest: str) -> None:
        """A rename where source and folder share a disk, else a copy that is renamed when it is complete."""
        target = self._path(digest)
        if target.exists():
            source.unlink()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        source.chmod(0o444)
        place(source, target)

    def fetch(self, digest: str) -> Path:
        """The file itself."""
        path = self._path(digest)
        if not path.exists():
            raise _missing(digest)
        return path

    def size(self, digest: str) -> int | None:
        """From the file."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """From the file, opened at once so that a missing blob raises here and not half way."""
        return _pieces(self.fetch(digest), start, stop)

    def remove(self, digest: str) -> None:
        """Unlink."""
        self._path(digest).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Copies from another disk that were broken off; another service may be making one in the same folder."""
        oldest = time.time() - BROKEN_OFF_S
        for partial in self._folder.glob(f"*/*{PARTIAL}"):
            if partial.stat().st_mtime < oldest:
                partial.unlink(missing_ok=True)

    def _path(self, digest: str) -> Path:
        return self._folder / digest[:2] / digest


class ObjectShelf:
    """Blobs as objects in a bucket, with a folder of those that this machine has needed."""

    def __init__(self, url: str, cache: Path) -> None:
        self._objects = from_url(url)
        self._cache = FolderShelf(cache)
        self._arrivals = cache / "arriving"

    def take(self, source: Path, digest: str) -> None:
        """Send it, then keep it in the cache: what was just made is often read next."""
        if self.size(digest) is None:
            obstore.put(self._objects, _key(digest), source, chunk_size=_part_bytes(source))
        self._cache.take(source, digest)

    def fetch(self, digest: str) -> Path:
        """From the cache, or downloaded into it and checked."""
        if self._cache.size(digest) is None:
            self._download(digest)
        return self._cache.fetch(digest)

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
        for begin in range(start, stop, 8 * PIECE_BYTES):
            end = min(begin + 8 * PIECE_BYTES, stop)
            yield bytes(obstore.get_range(self._objects, _key(digest), start=begin, end=end))

    def remove(self, digest: str) -> None:
        """Both the object and the cached file."""
        self._cache.remove(digest)
        obstore.delete(self._objects, _key(digest))

    def tidy(self) -> None:
        """Downloads that were broken off."""
        shutil.rmtree(self._arrivals, ignore_errors=True)

    def _download(self, digest: str) -> None:
        self._arrivals.mkdir(parents=True, exist_ok=True)
        arriving = self._arrivals / f"{digest}.{os.urandom(4).hex()}{PARTIAL}"
        try:
            found = _write_pieces(arriving, self._stream(digest))
            if found != digest:
                raise FileError("the object's bytes are not its name's", where="blob", found=found, expected=digest)
            self._cache.take(arriving, digest)
        finally:
            arriving.unlink(missing_ok=True)

    def _stream(self, digest: str) -> Iterator[bytes]:
        try:
            answer = obstore.get(self._objects, _key(digest))
        except (ObjectMissingError, FileNotFoundError):
            raise _missing(digest) from None
        return (bytes(piece) for piece in answer.stream(min_chunk_size=PIECE_BYTES))


def _shelf(url: str, data: Path) -> Shelf:
    parts = urlsplit(url)
    if parts.scheme in ("", "file"):
        return FolderShelf(Path(unquote(parts.path)))
    return ObjectShelf(url, data / "cache" / "blobs")


def _part_bytes(source: Path) -> int:
    """Large enough that the file has fewer than the 10 000 parts that S3 takes."""
    return max(SMALLEST_PART_BYTES, source.stat().st_size // 5_000)


def _key(digest: str) -> str:
    return f"{digest[:2]}/{digest}"


def _pieces(path: Path, start: int, stop: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(PIECE_BYTES, stop - start))):
            start += len(piece)
            yield piece


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


def _missing(digest: str) -> NotFoundError:
    return NotFoundError("no such blob", where="sha256", found=digest)
