"""Shards: how files are made of ranges of chunks. Read from a file of records of 48 bytes of which nothing is believed.

Only the section about files is kept. The one about xorbs that follows says what the xorbs themselves say, and the
footer, which uploads leave out, where the sections begin.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from typing import IO

from app.hub.xet.hashes import as_text
from merge_core.errors import FileError

MOST_BYTES = 80 << 20
"""Of a shard as it is sent; clients aim at 64 MiB."""
MOST_TERMS = 1 << 18
"""Of all files of a shard: 16 TB in whole xorbs, and some 40 MB of memory."""
TAG = b"HFRepoMetaData\0" + bytes.fromhex("556967456a7b815783a5bdd95ccdd14aa9")
VERSION = 2
RECORD = 48
HAS_RANGE_HASHES, HAS_SHA256 = 1 << 31, 1 << 30
_END = bytes([0xFF]) * 32
_NUMBERS = Struct("<4I")
_HEADER = Struct("<32sQQ")


@dataclass(frozen=True, slots=True)
class Term:
    """Chunks `first` up to `stop` of a xorb: `length` bytes of a file. `proof` is the range's hash, where given."""

    xorb: str
    first: int
    stop: int
    length: int
    proof: bytes | None = None


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file: its hash by Xet, its parts in order, and its sha256 where the shard tells it."""

    hash: str
    terms: tuple[Term, ...]
    sha256: str | None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(term.length for term in self.terms)


def read_shard(file: IO[bytes]) -> tuple[ShardFile, ...]:
    """The files that a shard describes. Raises FileError when the bytes are not one."""
    records = _Records(file)
    tag, version, _footer = _HEADER.unpack(records.take("header"))
    _require(tag == TAG, "tag", tag.hex(), "that of a shard")
    _require(version == VERSION, "version", version, VERSION)
    files = tuple(_files(records))
    _pass_xorbs(records)
    return files


class _Records:
    """The records in order, counting the parts of files."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._left = file.seek(0, 2) // RECORD
        self.terms_left = MOST_TERMS
        file.seek(0)

    def take(self, what: str) -> bytes:
        self.check_room(1, what)
        self._left -= 1
        return self._file.read(RECORD)

    def skip(self, count: int, what: str) -> None:
        self.check_room(count, what)
        self._left -= count
        self._file.seek(count * RECORD, 1)

    def check_room(self, count: int, what: str) -> None:
        """Before anything is read or kept: a count is no more than a claim."""
        _require(count <= self._left, what, f"{self._left} records left", f"{count} more")


def _files(records: _Records) -> Iterator[ShardFile]:
    names: dict[bytes, str] = {}  # a xorb is named many times
    while True:
        head = records.take("file")
        if head[:32] == _END:
            return
        flags, count, _, _ = _NUMBERS.unpack_from(head, 32)
        _require(count <= records.terms_left, "terms", f"{count} more", f"at most {MOST_TERMS} in all files")
        records.terms_left -= count
        records.check_room(count, "terms")
        yield _file(records, as_text(head[:32]), flags, count, names)


def _file(records: _Records, digest: str, flags: int, count: int, names: dict[bytes, str]) -> ShardFile:
    parts = [records.take("term") for _ in range(count)]
    if flags & HAS_RANGE_HASHES:
        records.check_room(count, "range hashes")
        terms = tuple(_term(part, names, records.take("range hash")[:32]) for part in parts)
    else:
        terms = tuple(_term(part, names, None) for part in parts)
    return ShardFile(digest, terms, as_text(records.take("sha256")[:32]) if flags & HAS_SHA256 else None)


def _term(record: bytes, names: dict[bytes, str], proof: bytes | None) -> Term:
    _flags, length, first, stop = _NUMBERS.unpack_from(record, 32)
    _require(first < stop, "term", f"chunks {first} up to {stop}", "at least one chunk")
    name = names.setdefault(record[:32], as_text(record[:32]))
    return Term(name, first, stop, length, proof)


def _pass_xorbs(records: _Records) -> None:
    while True:
        head = records.take("xorb")
        if head[:32] == _END:
            return
        records.skip(_NUMBERS.unpack_from(head, 32)[1], "chunks of a xorb")


def _require(holds: bool, what: str, found: object, expected: object) -> None:
    if not holds:
        raise FileError(f"wrong {what}", where="shard", found=found, expected=expected)
