"""One value for a whole tensor, with a sign or 0 for each entry: what ComPEFT makes of a delta."""

from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.gap_code import BLOCK, MOST_BYTES, Decoder
from kernels.ternary import Planes, plane_bytes, tally, unpack
from merge_core.deltas.contract import Rows
from merge_core.errors import FileError
from merge_core.stored import StoredTensor

Form = Literal["hot", "cold"]

SOUGHT = 16 * BLOCK
"""Elements whose entries are counted at a time when one is looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Ternary:
    """W = base + value·s, s in {−1, 0, +1}, of which `count` are not 0.

    `parts` are the positive and the negative bitplane of a hot one, and the sizes and the bytes of the blocks of a
    cold one; `merge_core.formats.ternary` has checked that they fit the shape.
    """

    parts: tuple[StoredTensor, StoredTensor]
    form: Form
    value: float
    count: int
    shape: tuple[int, ...]
    kind = "ternary"

    @property
    def nbytes(self) -> int:
        return sum(part.spec.nbytes for part in self.parts)

    @property
    def open_bytes(self) -> int:
        """A cold one keeps where its blocks end, and a decoder."""
        blocks = self.parts[0].spec.size
        return 0 if self.form == "hot" else 8 * (blocks + 1) + MOST_BYTES + 2 * plane_bytes(BLOCK)

    def open(self) -> "TernaryLoader":
        return TernaryLoader(self)

    def place_of(self, rank: int) -> int:
        """The flat index of the `rank`-th entry that is not 0, counted from 1: of no more than `count`."""
        loader, size, seen = self.open(), prod(self.shape), 0
        for start in range(0, size, SOUGHT):
            planes = loader.planes(start, min(SOUGHT, size - start))
            run = slice(planes.start // 8, planes.start // 8 + plane_bytes(min(SOUGHT, size - start)))
            part = Planes(planes.positive[run], planes.negative[run])
            found = tally(part)
            if seen + found.positive + found.negative >= rank:
                entries = np.unpackbits(part.positive | part.negative, bitorder="little")
                return start + int(np.flatnonzero(entries)[rank - seen - 1])
            seen += found.positive + found.negative
        raise AssertionError("a reader has counted the entries")


class TernaryLoader:
    """Unpacks chunks; hands out the bitplanes themselves to whoever adds up or elects ternary deltas."""

    def __init__(self, delta: Ternary) -> None:
        self.value = np.float32(delta.value)
        self._planes: HotPlanes | ColdPlanes = HotPlanes(delta) if delta.form == "hot" else ColdPlanes(delta)

    @property
    def whole(self) -> Planes | None:
        """The bitplanes of the whole tensor, where they need no decoding."""
        return self._planes.whole if isinstance(self._planes, HotPlanes) else None

    def planes(self, start: int, size: int) -> Planes:
        """The bitplanes of a chunk, valid until the next call. Raises FileError for a broken block."""
        return self._planes.read(start, size)

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a ternary delta without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        if out.size:
            unpack(self.planes(start, out.size), float(self.value), out.size, out)


class HotPlanes:
    """Bitplanes as they lie in the file."""

    def __init__(self, delta: Ternary) -> None:
        self.whole = Planes(delta.parts[0].data, delta.parts[1].data)

    def read(self, start: int, size: int) -> Planes:
        return self.whole._replace(start=start)


class ColdPlanes:
    """Bitplanes of the blocks that hold a chunk, decoded into memory of its own."""

    def __init__(self, delta: Ternary) -> None:
        sizes, self._blocks = delta.parts
        self._ends = np.concatenate([[0], np.cumsum(sizes.data.view("<u2"), dtype=np.int64)])
        self._size = int(np.prod(delta.shape, dtype=np.int64))
        self._decoder = Decoder()
        self._held = range(0)
        self._bits: NDArray[np.uint8] = np.empty((2, 0), dtype=np.uint8)

    def read(self, start: int, size: int) -> Planes:
        wanted = range(start // BLOCK, -(-(start + size) // BLOCK))
        if wanted.start < self._held.start or wanted.stop > self._held.stop:
            self._decode(wanted)
        return Planes(self._bits[0], self._bits[1], start - self._held.start * BLOCK)

    def _decode(self, blocks: range) -> None:
        stop = min(blocks.stop * BLOCK, self._size)
        self._held = range(0)
        self._bits = np.empty((2, plane_bytes(stop - blocks.start * BLOCK)), dtype=np.uint8)
        for block in blocks:
            elements = min(BLOCK, self._size - block * BLOCK)
            coded = self._blocks.data[self._ends[block] : self._ends[block + 1]]
            planes = self._decoder.decode(coded, elements)
            if isinstance(planes, str):
                where = f"{self._blocks.file}: tensor '{self._blocks.spec.name[:200]}', block {block}"
                raise FileError("the code is broken", where=where, found=planes, expected="a sound block")
            first = plane_bytes((block - blocks.start) * BLOCK)
            self._bits[0, first : first + planes.positive.size] = planes.positive
            self._bits[1, first : first + planes.negative.size] = planes.negative
        self._held = blocks
