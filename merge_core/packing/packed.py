"""A packed file opened: any range of the original, from the blocks that hold it."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import numpy as np
import zstandard
from numpy.typing import NDArray

from kernels.byte_planes import join_planes
from merge_core.errors import FileError
from merge_core.mapped_file import map_file
from merge_core.packing.index import BLOCK, MAGIC, Index, Segment, decompressed, parse_index

Bytes = NDArray[np.uint8]


class Ranges(Protocol):
    """A file whose bytes can be had by range: plain, or packed itself."""

    def read(self, start: int, stop: int) -> Bytes: ...


class Plain:
    """A file that is not packed, mapped."""

    def __init__(self, path: Path) -> None:
        self._data = map_file(path)

    def read(self, start: int, stop: int) -> Bytes:
        """Its bytes [start, stop)."""
        return self._data[start:stop]


class Packed:
    """The original of a packed file. `open_origin` gives the files that it is stored against, by their sha256.

    Raises FileError for a file that is broken; used by one thread at a time.
    """

    def __init__(self, path: Path, open_origin: Callable[[str], Ranges]) -> None:
        self._file = path.name
        self._data = map_file(path) if path.stat().st_size else np.empty(0, np.uint8)
        self.index = parse_index(self._data.data, self._file)
        self._starts = self.index.starts()
        self._places = _places(self.index)
        self._zstd = zstandard.ZstdDecompressor()
        self._origins: dict[str, Ranges] = {}
        self._open_origin = open_origin

    @property
    def size(self) -> int:
        """Bytes of the original."""
        return self.index.size

    def read(self, start: int, stop: int) -> Bytes:
        """The original's bytes [start, stop)."""
        out = np.empty(stop - start, np.uint8)
        for begin, piece in self.pieces(start, stop):
            out[begin - start : begin - start + piece.size] = piece
        return out

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, Bytes]]:
        """The bytes [start, stop) a block at a time: where each piece begins, and what it holds."""
        position = max(bisect_right(self._starts, start) - 1, 0)
        while start < stop:
            segment, begin = self.index.segments[position], self._starts[position]
            end = min(stop, begin + segment.length)
            while start < end:
                piece = self._piece(position, start - begin, end - begin)
                yield start, piece
                start += piece.size
            position += 1

    def restore(self, out: Path) -> None:
        """Write the original to `out`. Raises FileError when its hash is not the one it had."""
        digest = sha256()
        with out.open("wb") as stream:
            for _, piece in self.pieces(0, self.size):
                digest.update(piece.data)
                stream.write(piece.data)
        if digest.hexdigest() != self.index.sha256:
            found, expected = digest.hexdigest(), self.index.sha256
            raise FileError("what was packed does not come back", where=self._file, found=found, expected=expected)

    def _piece(self, position: int, start: int, stop: int) -> Bytes:
        """From the segment's bytes [start, stop), those that lie in the first block of them."""
        segment = self.index.segments[position]
        block = start // BLOCK
        first, last = block * BLOCK, min((block + 1) * BLOCK, segment.length)
        if segment.kind == "same":
            return self._origin_bytes(segment, start, min(stop, last))
        whole = self._decoded(segment, self._stored(position, block), first, last)
        return whole[start - first : min(stop, last) - first]

    def _stored(self, position: int, block: int) -> Bytes:
        begin, end = self._places[position][block : block + 2]
        return self._data[begin:end]

    def _decoded(self, segment: Segment, stored: Bytes, first: int, last: int) -> Bytes:
        size = last - first
        plain = stored if stored.size == size else self._decompressed(stored, size)
        if segment.width == 1:
            return plain
        out = np.empty(size // segment.width, f"u{segment.width}")
        base = None
        if segment.kind == "difference":
            base = np.ascontiguousarray(self._origin_bytes(segment, first, last)).view(out.dtype)
        join_planes(np.ascontiguousarray(plain).reshape(segment.width, -1), out, base)
        return out.view(np.uint8)

    def _decompressed(self, stored: Bytes, size: int) -> Bytes:
        plain = decompressed(self._zstd, stored.data, size, self._file)
        if len(plain) != size:
            raise FileError("a block has another length", where=self._file, found=len(plain), expected=size)
        return np.frombuffer(plain, np.uint8)

    def _origin_bytes(self, segment: Segment, start: int, stop: int) -> Bytes:
        assert segment.origin is not None, "checked with the index"
        digest, begin = segment.origin.sha256, segment.origin.begin
        if digest not in self._origins:
            self._origins[digest] = self._open_origin(digest)
        found = self._origins[digest].read(begin + start, begin + stop)
        if found.size != stop - start:
            raise FileError("the file it is stored against is too short", where=self._file, found=digest)
        return found


def _places(index: Index) -> list[list[int]]:
    """For each segment, where in the packed file its blocks begin, and where the last one ends."""
    places, begin = [], len(MAGIC)
    for segment in index.segments:
        places.append(list(accumulate(segment.blocks, initial=begin)))
        begin = places[-1][-1]
    return places
