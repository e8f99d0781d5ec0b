"""Outlines: of a checkpoint's file what planning reads, the header and all that is no weight; the weights are holes."""

from collections.abc import Callable, Iterator
from pathlib import Path

from merge_core.errors import FileError
from merge_core.formats.safetensors_header import Header, header_length, parse_header

OUTLINED_BYTES = 64 << 20
"""A smaller file is wanted whole; and of a larger one, no more than this beside its header."""

Read = Callable[[int, int], Iterator[bytes]]
"""The bytes from one place up to another, piece by piece."""


def write_outline(path: Path, name: str, size: int, read: Read) -> bool:
    """Write the outline of a file of `size` bytes to `path`; False, and nothing, where it is better to have it whole.

    So are small files, and what is no sound checkpoint: planning says of the whole file what is wrong with it.
    """
    places = _outlined(name, size, read) if size > OUTLINED_BYTES else None
    if places is None:
        return False
    with path.open("wb") as file:
        file.truncate(size)
        for start, stop in places:
            file.seek(start)
            file.writelines(read(start, stop))
    return True


def _outlined(name: str, size: int, read: Read) -> list[tuple[int, int]] | None:
    try:
        length = 8 + header_length(b"".join(read(0, 8)), size, name)
        header = parse_header(b"".join(read(8, length)), size, name)
    except FileError:
        return None
    kept = list(_no_weights(header))
    return [(0, length), *kept] if sum(stop - start for start, stop in kept) <= OUTLINED_BYTES else None


def _no_weights(header: Header) -> Iterator[tuple[int, int]]:
    """The places of what is never averaged, which planning compares."""
    return ((entry.begin, entry.end) for entry in header.entries if not entry.spec.dtype.mergeable)
