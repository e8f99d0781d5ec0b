"""Where the members of a zip archive lie: stored ones only, so that nothing is ever inflated.

Only the central directory is believed, and only after every claim in it is checked against the file's size.
https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, sections 4.3 and 4.4
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from merge_core.errors import FileError, UnsupportedError

Bytes = NDArray[np.uint8]

MOST_MEMBERS = 200_000
MOST_DIRECTORY_BYTES = 64_000_000

_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_IN_ZIP64 = 0xFFFFFFFF
_MOST_COMMENT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Member:
    """One file of the archive: its bytes are [begin, end) of the whole."""

    begin: int
    end: int


def is_zip(raw: Bytes) -> bool:
    return raw[:4].tobytes() == b"PK\x03\x04"


def read_members(raw: Bytes, file: str) -> Mapping[str, Member]:
    """The members by name. Raises FileError for a broken archive, UnsupportedError for a compressed member."""
    start, size, count = _directory(raw, file)
    if count > MOST_MEMBERS or size > MOST_DIRECTORY_BYTES:
        raise FileError("the archive has too many members", where=file, found=count, expected=f"at most {MOST_MEMBERS}")
    members: dict[str, Member] = {}
    for name, member in _entries(raw, raw[start : start + size].tobytes(), count, start, file):
        if name in members:
            raise FileError("a member is there twice", where=file, found=repr(name[:200]), expected="one")
        members[name] = member
    _check_apart(members, file)
    return members


def _directory(raw: Bytes, file: str) -> tuple[int, int, int]:
    """Start, size and number of entries of the central directory."""
    tail = raw[-(_MOST_COMMENT + _END.size) :].tobytes()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END.size:
        raise FileError("the archive is cut off", where=file, found="no end record", expected="a complete zip archive")
    record = _END.unpack_from(tail, at)
    count, size, start = record[4], record[5], record[6]
    position = raw.size - len(tail) + at
    if 0xFFFF in record[1:5] or _IN_ZIP64 in (size, start):
        start, size, count = _directory64(raw, position, file)
    if start + size > position:
        message = "the archive's directory lies outside of it"
        raise FileError(message, where=file, found=f"[{start}, {start + size})", expected=f"within {position} bytes")
    return start, size, count


def _directory64(raw: Bytes, position: int, file: str) -> tuple[int, int, int]:
    broken = FileError("the archive's zip64 record is broken", where=file, expected="a complete zip archive")
    if position < _LOCATOR.size:
        raise broken
    signature, _, at, _ = _LOCATOR.unpack(raw[position - _LOCATOR.size : position].tobytes())
    if signature != b"PK\x06\x07" or at + _END64.size > position:
        raise broken
    record = _END64.unpack(raw[at : at + _END64.size].tobytes())
    if record[0] != b"PK\x06\x06":
        raise broken
    return record[9], record[8], record[7]


def _entries(raw: Bytes, directory: bytes, count: int, limit: int, file: str) -> Iterator[tuple[str, Member]]:
    at = 0
    for _ in range(count):
        if len(directory) - at < _CENTRAL.size or directory[at : at + 4] != b"PK\x01\x02":
            raise FileError("the archive's directory is broken", where=file, expected=f"{count} members")
        fields = _CENTRAL.unpack_from(directory, at)
        name_end = at + _CENTRAL.size + fields[10]
        extra_end = name_end + fields[11]
        name = directory[at + _CENTRAL.size : name_end].decode("utf-8", "replace")
        _check_stored(name, fields, file)
        packed, size, offset = _sizes(fields, directory[name_end:extra_end], file)
        if packed != size:
            raise FileError(
                "a member's sizes differ", where=file, found=f"{packed} and {size}", expected="stored bytes"
            )
        yield name, _located(raw, name, offset, size, limit, file)
        at = extra_end + fields[12]


def _check_stored(name: str, fields: tuple[int, ...], file: str) -> None:
    encrypted, method = fields[3] & 0x41, fields[4]
    if encrypted or method:
        found = "encryption" if encrypted else f"method {method}"
        where = f"{file}: member {name[:200]!r}"
        raise UnsupportedError("only stored members are read", where=where, found=found, expected="method 0")


def _sizes(fields: tuple[int, ...], extra: bytes, file: str) -> tuple[int, int, int]:
    """Packed size, size and offset; those that do not fit in 32 bits stand in the zip64 extra field."""
    packed, size, offset = fields[8], fields[9], fields[16]
    wide = _wide(extra)
    found = []
    for value in (size, packed, offset):
        if value == _IN_ZIP64:
            if len(wide) < 8:
                raise FileError("a member's size is missing", where=file, expected="a zip64 extra field")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        found.append(value)
    return found[1], found[0], found[2]


def _wide(extra: bytes) -> bytes:
    while len(extra) >= 4:
        kind, length = int.from_bytes(extra[:2], "little"), int.from_bytes(extra[2:4], "little")
        if kind == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _located(raw: Bytes, name: str, offset: int, size: int, limit: int, file: str) -> Member:
    where = f"{file}: member {name[:200]!r}"
    if offset + _LOCAL.size > limit:
        raise FileError("the member lies outside of the archive", where=where, found=offset, expected=f"below {limit}")
    header = _LOCAL.unpack(raw[offset : offset + _LOCAL.size].tobytes())
    begin = offset + _LOCAL.size + header[9] + header[10]
    if header[0] != b"PK\x03\x04" or begin + size > limit:
        found = f"{size} bytes from {begin}"
        raise FileError("the member lies outside of the archive", where=where, found=found, expected=f"below {limit}")
    return Member(begin, begin + size)


def _check_apart(members: Mapping[str, Member], file: str) -> None:
    end = 0
    for name, member in sorted(members.items(), key=lambda entry: (entry[1].begin, entry[1].end)):
        if member.begin < end:
            raise FileError("two members overlap", where=f"{file}: member {name[:200]!r}", expected="members apart")
        end = member.end
