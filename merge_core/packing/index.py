"""The index of a packed file: which bytes of the original are kept how. Checked as if it came from outside."""

import json
from itertools import accumulate
from typing import Annotated, Literal

import zstandard
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from merge_core.errors import FileError

MAGIC = b"STKPACK1"
BLOCK = 1 << 18
"""Bytes of the original in a block: what has to be decoded to read one of them."""
MOST_INDEX_BYTES = 1 << 28
SMALLEST_BYTES = 3 * 8

Count = Annotated[int, Field(ge=0, lt=1 << 60)]
Width = Literal[1, 2, 4, 8]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Origin(_Frozen):
    """Bytes of another file: its sha256, and where in it they begin."""

    sha256: Sha256
    begin: Count


class Segment(_Frozen):
    """A run of the original's bytes.

    `copy`: compressed as it is. `planes`: compressed as byte planes of elements of `width` bytes. `difference`: the
    same, of each element's distance from its fellow at `origin`. `same`: not stored, as `origin` has equal bytes.
    `blocks` are the stored lengths, block by block; one as long as what it stands for is not compressed.
    """

    kind: Literal["copy", "planes", "difference", "same"]
    length: Count
    width: Width = 1
    origin: Origin | None = None
    blocks: tuple[Annotated[int, Field(ge=1, le=BLOCK)], ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> "Segment":
        blocks = 0 if self.kind == "same" else -(-self.length // BLOCK)
        if len(self.blocks) != blocks:
            raise ValueError(f"found {len(self.blocks)} blocks, expected {blocks} for {self.length} bytes")
        if (self.origin is not None) != (self.kind in ("difference", "same")):
            raise ValueError(f"a segment of kind {self.kind} has an origin exactly where it is read")
        if self.length % self.width or (self.width == 1) != (self.kind in ("copy", "same")):
            raise ValueError(f"{self.length} bytes of kind {self.kind} are not elements of {self.width}")
        return self


class Index(_Frozen):
    """The original's size and hash, and its segments in order."""

    size: Count
    sha256: Sha256
    segments: tuple[Segment, ...]

    @model_validator(mode="after")
    def _covers(self) -> "Index":
        total = sum(segment.length for segment in self.segments)
        if total != self.size:
            raise ValueError(f"the segments have {total} bytes, expected {self.size}")
        return self

    def starts(self) -> list[int]:
        """Where each segment begins in the original."""
        return [0, *accumulate(segment.length for segment in self.segments)][:-1]

    def encoded(self) -> bytes:
        """The compressed JSON, its length and the magic number: what a packed file ends with."""
        text = json.dumps(self.model_dump(exclude_defaults=True), separators=(",", ":")).encode()
        body = zstandard.ZstdCompressor(level=9, write_checksum=True).compress(text)
        return body + len(body).to_bytes(8, "little") + MAGIC


def parse_index(data: memoryview, file: str) -> Index:
    """The index at the end of a packed file. Raises FileError where the two do not fit."""
    if len(data) < SMALLEST_BYTES:
        raise FileError(
            "too short for a packed file", where=file, found=len(data), expected=f"at least {SMALLEST_BYTES}"
        )
    for mark in (data[:8], data[-8:]):
        if bytes(mark) != MAGIC:
            raise FileError("not a packed file", where=file, found=repr(bytes(mark)), expected=repr(MAGIC))
    end = len(data) - 16
    begin = end - int.from_bytes(data[end : end + 8], "little")
    if begin < 8 or end - begin > MOST_INDEX_BYTES:
        raise FileError("the index does not fit the file", where=file, found=end - begin, expected=f"at most {end - 8}")
    index = _parse(data[begin:end], file)
    blocks = 8 + sum(sum(segment.blocks) for segment in index.segments)
    if blocks != begin:
        raise FileError("the blocks have another size than the index says", where=file, found=begin, expected=blocks)
    return index


def _parse(body: memoryview, file: str) -> Index:
    try:
        return Index.model_validate_json(decompressed(zstandard.ZstdDecompressor(), body, MOST_INDEX_BYTES, file))
    except ValidationError as error:
        raise FileError(f"the index is broken: {error}", where=file) from error


def decompressed(zstd: zstandard.ZstdDecompressor, frame: memoryview, most: int, file: str) -> bytes:
    """What a frame holds. Raises FileError for one that is broken or claims more than `most` bytes.

    The claim is looked at first: zstandard would allocate whatever it says.
    """
    try:
        claimed = zstandard.frame_content_size(frame)
        if not 0 <= claimed <= most:
            raise FileError("a frame claims too much", where=file, found=claimed, expected=f"at most {most}")
        return zstd.decompress(frame)
    except zstandard.ZstdError as error:
        raise FileError(f"a frame is broken: {error}", where=file) from error
