"""Blobs as files of a folder on this machine, some of them packed against others: docs/packed.md.

A blob is there as its bytes, as a packed file beside where they would be, or for a while as both. Whoever has asked
for the bytes' own file opens it soon, so it goes once it has not been asked for a while.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from app.store.cache import RECENT_S
from app.store.copies import Copies
from app.store.file_locks import forgotten, held, touch
from app.store.files import PARTIAL, place, sync_folder
from app.store.folder_shelf import FolderShelf, missing, pieces

if TYPE_CHECKING:
    from merge_core.packing import Packed, Ranges

PACKED = ".packed"
LEAST_PACKED_BYTES = 1 << 20
"""A smaller file is not worth a packed form's index."""


class PackedShelf(FolderShelf):
    """A file for each blob, complete under its name or packed under `<name>.packed`; restored copies in a cache."""

    def __init__(self, folder: Path, copies: Copies) -> None:
        super().__init__(folder)
        self._copies = copies

    def take(self, source: Path, digest: str) -> None:
        """As with any folder; what is there packed is there."""
        if self.is_packed(digest):
            source.unlink()
        else:
            super().take(source, digest)

    @contextmanager
    def brought_near(self, source: Path, digest: str) -> Iterator[Path]:
        """A synced packed file on the blobs' own disk, where to take it is no more than a rename."""
        target = self.packed_path(digest)
        if source.stat().st_dev == target.parent.stat().st_dev:
            yield source
            return
        near = target.with_name(f"{target.name}.{os.urandom(4).hex()}{PARTIAL}")
        try:
            place(source, near)
            yield near
        finally:
            near.unlink(missing_ok=True)

    def take_packed(self, source: Path, digest: str) -> None:
        """Keep a synced packed file for a blob whose bytes are here; the bytes stay until `drop_plain`."""
        source.chmod(0o444)
        place(source, self.packed_path(digest))

    def drop_plain(self, digest: str, unused_s: float = RECENT_S) -> bool:
        """Remove the bytes' own file, where there is a packed one, and nobody has asked for it in this time.

        True when it is gone.
        """
        path = self.path(digest)
        if not self.is_packed(digest) or not forgotten(path, unused_s):
            return False
        sync_folder(path.parent)
        return True

    def is_packed(self, digest: str) -> bool:
        """True when there is a packed file."""
        return self.packed_path(digest).exists()

    def fetch(self, digest: str) -> Path:
        """The file itself, or one that is restored and checked."""
        return self._plain(digest) or self._copies.fetch(digest, lambda: _views(self.packed(digest)))

    def outline(self, digest: str) -> Path:
        """The file itself, or what planning reads of it."""
        return self._plain(digest) or self._copies.kept(digest) or self._outline(digest) or self.fetch(digest)

    def size(self, digest: str) -> int | None:
        """From the file, or from a packed one's index."""
        size = super().size(digest)
        return self.packed(digest).size if size is None and self.is_packed(digest) else size

    def read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """From the file; of a packed one the blocks are decoded that hold the range."""
        path = self._plain(digest)
        if path is not None:
            return pieces(path, start, stop)
        return (piece.tobytes() for _, piece in self.packed(digest).pieces(start, stop))

    def is_plain(self, digest: str) -> bool:
        """True when the bytes have a file of their own."""
        return self.path(digest).exists()

    def ranges(self, digest: str) -> "Ranges":
        """The blob's bytes by range, mapped or decoded. Raises NotFoundError."""
        from merge_core.packing import Plain  # most processes ask for none, and it loads kernels

        with suppress(FileNotFoundError):
            return Plain(self.path(digest))
        return self.packed(digest)

    def packed(self, digest: str) -> "Packed":
        """The packed form. Raises NotFoundError."""
        try:
            return self.opened(self.packed_path(digest))
        except FileNotFoundError:
            raise missing(digest) from None

    def opened(self, path: Path) -> "Packed":
        """A packed file, wherever it is, on top of the blobs that are here."""
        from merge_core.packing import Packed

        return Packed(path, self.ranges)

    def remove(self, digest: str) -> None:
        """The file in all its forms, the bytes' own last: without it a packed one would pass for complete."""
        self._copies.remove(digest)
        self.packed_path(digest).unlink(missing_ok=True)
        super().remove(digest)

    def tidy(self) -> None:
        """Files that were broken off."""
        super().tidy()
        self._copies.tidy()

    def close(self) -> None:
        """Hold no copy any more."""
        self._copies.close()

    def packed_path(self, digest: str) -> Path:
        """Where the packed form is, or would be."""
        path = self.path(digest)
        return path.with_name(path.name + PACKED)

    def _plain(self, digest: str) -> Path | None:
        """The bytes' own file where there is one, which whoever drops it knows to be in use."""
        path = self.path(digest)
        try:
            if path.stat().st_size > LEAST_PACKED_BYTES:
                descriptor = held(path)  # who is just dropping it has done so, or sees that it is touched
                touch(path)
                os.close(descriptor)
        except FileNotFoundError:
            return None
        return path

    def _outline(self, digest: str) -> Path | None:
        packed = self.packed(digest)
        return self._copies.outline(
            digest, packed.size, lambda start, stop: (piece.tobytes() for _, piece in packed.pieces(start, stop))
        )


def _views(packed: "Packed") -> Iterator[memoryview]:
    return (piece.data for _, piece in packed.pieces(0, packed.size))
