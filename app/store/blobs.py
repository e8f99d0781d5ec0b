"""Blobs: bytes by their sha256, in a folder or an object store. A name in it means complete, checked bytes."""

import os
import re
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError

from app.settings import Settings
from app.store.copies import Copies
from app.store.folder_shelf import missing
from app.store.multipart import PartsFolder
from app.store.object_shelf import ObjectShelf
from app.store.packed_shelf import PackedShelf
from app.store.uploads import Announce, Upload, Uploads
from merge_core.errors import FileError

NO_BYTES = sha256().hexdigest()
CHECKPOINT = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
"""Files of which planning reads headers, and tensors that are no weights; of others it may read anything."""


class Shelf(Protocol):
    """Where blobs are kept."""

    def take(self, source: Path, digest: str) -> None:
        """Keep the bytes of `source`, whose hash is known; the file is gone afterwards."""

    def fetch(self, digest: str) -> Path:
        """A local file with the bytes. Raises NotFoundError."""

    def outline(self, digest: str) -> Path:
        """A local file that agrees with the blob in all but its weights. Raises NotFoundError."""

    def size(self, digest: str) -> int | None:
        """In bytes; None when it is not here."""

    def read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes of a range, piece by piece."""

    def remove(self, digest: str) -> None:
        """Forget the blob; fine when it is not here."""

    def tidy(self) -> None:
        """Remove what is half way in, of processes that are gone."""

    def close(self) -> None:
        """Let go of what is held on this machine."""


class Blobs:
    """The service's blobs. The database says who may read one; here it only matters whether it exists."""

    def __init__(self, settings: Settings, *, holds: bool = False) -> None:
        """With `holds`, for a job: what it has fetched stays on this machine until its process ends."""
        self._shelf = _shelf(settings, holds=holds)
        self._uploads = Uploads(settings.uploads, self._shelf.take)
        self._uploads_folder = settings.uploads
        self.parts = PartsFolder(settings.uploads, self._shelf.take)

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

    def outline(self, sha256: str, name: str) -> Path:
        """A file with what planning reads of the blob, which is called `name`: a checkpoint's weights may be holes."""
        return self._shelf.outline(sha256) if CHECKPOINT.fullmatch(name) else self._shelf.fetch(sha256)

    def read(self, sha256: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The bytes from `start` up to `stop`, piece by piece."""
        return self._shelf.read(sha256, start, self._require_size(sha256) if stop is None else stop)

    def size(self, sha256: str) -> int | None:
        """In bytes; None when it is not here."""
        return self._shelf.size(sha256)

    def exists(self, sha256: str) -> bool:
        """True when the bytes are here."""
        return self._shelf.size(sha256) is not None

    @property
    def packing_shelf(self) -> PackedShelf | None:
        """Where blobs may be packed; None for an object store, which keeps them whole."""
        return self._shelf if isinstance(self._shelf, PackedShelf) else None

    def is_whole(self, sha256: str) -> bool:
        """True when `local_path` costs no decoding."""
        shelf = self.packing_shelf
        return shelf is None or shelf.is_plain(sha256)

    def check(self) -> None:
        """Raises OSError when the place where blobs are kept does not answer."""
        try:
            self._shelf.size(NO_BYTES)
        except BaseError as error:
            raise OSError(f"the object store does not answer: {error}") from error

    def delete(self, sha256: str) -> None:
        """Remove the bytes; fine when they are not here."""
        self._shelf.remove(sha256)

    def close(self) -> None:
        """Let go of the files that were held; the end of the process does the same."""
        self._shelf.close()

    def _require_size(self, digest: str) -> int:
        size = self._shelf.size(digest)
        if size is None:
            raise missing(digest)
        return size


def _shelf(settings: Settings, *, holds: bool) -> Shelf:
    parts = urlsplit(settings.blob_url)
    copies = Copies(settings.data / "cache", settings.cache_bytes, holds=holds)
    if parts.scheme in ("", "file"):
        return PackedShelf(Path(unquote(parts.path)), copies)
    return ObjectShelf(settings.blob_url, copies)
