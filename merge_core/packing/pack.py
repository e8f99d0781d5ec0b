"""From a safetensors file to its packed form: each tensor in whichever way takes least."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import zstandard
from numpy.typing import NDArray

from kernels.byte_planes import split_planes
from merge_core.errors import CancelledError
from merge_core.formats.safetensors_file import read_header
from merge_core.formats.safetensors_header import Entry, Header
from merge_core.mapped_file import map_file
from merge_core.packing.index import BLOCK, MAGIC, Index, Origin, Segment, Width
from merge_core.tensors import TensorSpec

LEVEL = 3
TRIED = 3
"""Blocks of a tensor on which the ways to keep it are compared."""

WIDTHS: dict[int, Width] = {2: 2, 4: 4, 8: 8}
"""Of elements that have byte planes."""

Bytes = NDArray[np.uint8]
Alike = tuple[Origin, Bytes]
"""Where the bytes of another file's tensor are, and those bytes."""


@dataclass(frozen=True, slots=True)
class Known:
    """What a file may be stored against: `like` has the base's tensor of a spec, `equal` bytes of a hash and length."""

    like: Callable[[TensorSpec], Alike | None] = lambda spec: None
    equal: Callable[[str, int], Alike | None] = lambda digest, nbytes: None


@dataclass(frozen=True, slots=True)
class Packing:
    """What was packed: bytes before and after, bytes by kind of segment, and each stored tensor's place by its hash.

    `origins` are the files without which this one cannot be read.
    """

    size: int
    stored: int
    by_kind: dict[str, int]
    tensors: dict[str, Origin] = field(repr=False)
    origins: frozenset[str] = frozenset()


def pack(
    path: Path, out: Path, digest: str, known: Known | None = None, *, cancelled: Callable[[], bool] = lambda: False
) -> Packing:
    """Write the safetensors file at `path`, whose sha256 is `digest`, to `out` in packed form.

    Raises FileError where it is not a sound safetensors file, CancelledError soon after `cancelled` turns true;
    what has been written of `out` is then the caller's to remove.
    """
    with out.open("wb") as stream:
        work = _Packing(map_file(path), digest, known or Known(), stream, cancelled)
        stream.write(MAGIC)
        segments = tuple(work.segments(read_header(path)))
        stream.write(Index(size=path.stat().st_size, sha256=digest, segments=segments).encoded())
    return work.report(segments, out.stat().st_size)


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to keep a run of bytes; `base` are those of `origin` that a difference is taken from."""

    kind: Literal["copy", "planes", "difference"]
    values: Bytes
    width: Width = 1
    origin: Origin | None = None
    base: Bytes | None = None

    def starts(self) -> range:
        return range(0, self.values.size, BLOCK)

    def plain(self, start: int) -> bytes:
        """A block before compression."""
        part = slice(start, start + BLOCK)
        if self.kind == "copy":
            return self.values[part].tobytes()
        base = None if self.base is None else self._elements(self.base[part])
        return split_planes(self._elements(self.values[part]), base).tobytes()

    def segment(self, blocks: list[int]) -> Segment:
        length = self.values.size
        return Segment(kind=self.kind, length=length, width=self.width, origin=self.origin, blocks=tuple(blocks))

    def _elements(self, values: Bytes) -> NDArray[Any]:
        return np.ascontiguousarray(values).view(f"u{self.width}")


class _Packing:
    """One file on its way into `stream`."""

    def __init__(self, data: Bytes, digest: str, known: Known, stream: BinaryIO, cancelled: Callable[[], bool]) -> None:
        self._data, self._digest, self._known, self._stream, self._cancelled = data, digest, known, stream, cancelled
        self._zstd = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        self._tensors: dict[str, Origin] = {}

    def report(self, segments: Iterable[Segment], stored: int) -> Packing:
        by_kind: dict[str, int] = {}
        for segment in segments:
            by_kind[segment.kind] = by_kind.get(segment.kind, 0) + segment.length
        origins = frozenset(segment.origin.sha256 for segment in segments if segment.origin is not None)
        return Packing(self._data.size, stored, by_kind, self._tensors, origins)

    def segments(self, header: Header) -> Iterator[Segment]:
        begin = min((entry.begin for entry in header.entries), default=self._data.size)
        yield self._stored(_Way("copy", self._data[:begin]))
        for entry in header.entries:
            if entry.end > entry.begin:
                yield self._tensor(entry)

    def _tensor(self, entry: Entry) -> Segment:
        values = self._data[entry.begin : entry.end]
        digest = sha256(values.data).hexdigest()
        like = self._known.like(entry.spec)
        for alike in (like, self._known.equal(digest, values.size)):
            if alike is not None and np.array_equal(alike[1], values):
                return Segment(kind="same", length=values.size, origin=alike[0])
        self._tensors[digest] = Origin(sha256=self._digest, begin=entry.begin)
        return self._stored(min(_ways(entry.spec, values, like), key=self._trial))

    def _trial(self, way: _Way) -> int:
        starts = way.starts()
        chosen = starts[:: max(len(starts) // TRIED, 1)][:TRIED]
        return sum(len(self._block(way, start)) for start in chosen)

    def _stored(self, way: _Way) -> Segment:
        blocks = []
        for start in way.starts():
            if self._cancelled():
                raise CancelledError("the packing was cancelled")
            block = self._block(way, start)
            blocks.append(len(block))
            self._stream.write(block)
        return way.segment(blocks)

    def _block(self, way: _Way, start: int) -> bytes:
        """A block as it is stored: without compression where that would not make it smaller."""
        plain = way.plain(start)
        packed = self._zstd.compress(plain)
        return packed if len(packed) < len(plain) else plain


def _ways(spec: TensorSpec, values: Bytes, like: Alike | None) -> Iterator[_Way]:
    yield _Way("copy", values)
    width = WIDTHS.get(spec.dtype.itemsize)
    if width is not None:
        yield _Way("planes", values, width)
        if like is not None and spec.dtype.kind == "float":
            yield _Way("difference", values, width, *like)
