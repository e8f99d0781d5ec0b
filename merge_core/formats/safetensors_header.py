"""The header of a safetensors file, believed only after every claim in it is checked.

Layout: u64 little-endian header length, that many bytes of JSON, then the data. The JSON maps names to
{dtype, shape, data_offsets}; offsets count from the start of the data, and tile it without hole or overlap.
https://github.com/huggingface/safetensors (Format)
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from types import MappingProxyType
from typing import Any

from merge_core.errors import FileError, nearest
from merge_core.tensors import BY_CODE, TensorSpec

MOST_HEADER_BYTES = 100_000_000
"""The limit of the reference implementation."""
MOST_MARKS = 4_000_000
"""Commas and brackets in a header: half a million tensors. 100 MB of `[],[],…` would take gigabytes to parse."""
SMALL_HEADER_BYTES = 1 << 16
"""An adapter's. Who takes in a small file reads it several times, and checking takes longer than all else of it."""
MOST_NAME_LENGTH = 1024
MOST_DIMENSIONS = 16
MOST_ELEMENTS = 2**60
"""Bytes still count in 64 bits; zero dimensions left out, since strides are computed over the others."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a header; offsets are absolute in the file."""

    spec: TensorSpec
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a sound header says; entries are in file order."""

    entries: tuple[Entry, ...]
    metadata: Mapping[str, str]


def header_length(prefix: bytes, file_size: int, file: str) -> int:
    """The JSON's length, from the first 8 bytes of a file of `file_size` bytes."""
    if len(prefix) < 8:
        raise FileError(
            "too short to be a safetensors file", where=file, found=f"{file_size} bytes", expected="at least 8"
        )
    length = int.from_bytes(prefix[:8], "little")
    if length > MOST_HEADER_BYTES or length > file_size - 8:
        limit = min(MOST_HEADER_BYTES, file_size - 8)
        raise FileError(
            "the header's length does not fit the file", where=file, found=length, expected=f"at most {limit}"
        )
    return length


def parse_header(text: bytes, file_size: int, file: str) -> Header:
    """Check the JSON of a header against the size of its file.

    Raises FileError that names the tensor, what was found and what was expected.
    """
    parse = _parsed_lately if len(text) <= SMALL_HEADER_BYTES else _parsed
    return parse(text, file_size, file)


def _parsed(text: bytes, file_size: int, file: str) -> Header:
    claims = _parse_json(text, file)
    metadata = _check_metadata(claims.pop("__metadata__", {}), file)
    data_start = 8 + len(text)
    entries = [_check_entry(name, claim, data_start, file) for name, claim in claims.items()]
    entries.sort(key=lambda entry: (entry.begin, entry.end))
    _check_tiling(entries, data_start, file_size, file)
    return Header(tuple(entries), MappingProxyType(metadata))


_parsed_lately = lru_cache(maxsize=8)(_parsed)


def _parse_json(text: bytes, file: str) -> dict[str, Any]:
    if text[:1] != b"{":
        raise FileError("the header is not a JSON object", where=file, found=repr(text[:1]), expected="'{'")
    marks = sum(text.count(mark) for mark in (b",", b"[", b"{"))
    if marks > MOST_MARKS:
        raise FileError("the header has too many entries", where=file, found=marks, expected=f"at most {MOST_MARKS}")
    try:
        claims = json.loads(text.decode("utf-8"), object_pairs_hook=without_duplicates, parse_int=_parse_count)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise FileError(f"the header is not valid JSON: {error}", where=file) from error
    assert isinstance(claims, dict), "JSON that begins with a brace is an object"
    return claims


def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's pairs as a dict; ValueError for a key given twice, of which readers would choose either."""
    record = dict(pairs)
    if len(record) != len(pairs):
        (name, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {name[:80]!r} appears twice")
    return record


def _parse_count(digits: str) -> int:
    """Python reads -0 as the integer 0; other readers do not."""
    if digits.startswith("-"):
        raise ValueError(f"a negative number, {digits[:80]}")
    return int(digits)


def _check_metadata(metadata: object, file: str) -> dict[str, str]:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise FileError("__metadata__ must map strings to strings", where=file, found=str(metadata)[:80])
    if any(_has_surrogate(text) for pair in metadata.items() for text in pair):
        raise FileError("__metadata__ is not Unicode", where=file, found="a lone surrogate")
    return metadata


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _check_entry(name: str, claim: object, data_start: int, file: str) -> Entry:
    where = f"{file}: tensor {name[:80]!r}"
    if not 0 < len(name) <= MOST_NAME_LENGTH or not name.isprintable() or ".." in name.replace("\\", "/").split("/"):
        expected = f"1 to {MOST_NAME_LENGTH} printable characters, no path with '..'"
        raise FileError(
            "the tensor's name is not acceptable", where=where, found=f"{len(name)} characters", expected=expected
        )
    if not isinstance(claim, dict) or set(claim) != {"dtype", "shape", "data_offsets"}:
        found = str(sorted(claim))[:80] if isinstance(claim, dict) else type(claim).__name__
        raise FileError("the entry is malformed", where=where, found=found, expected="dtype, shape and data_offsets")
    spec = TensorSpec(name, _check_dtype(claim["dtype"], where), _check_shape(claim["shape"], where))
    begin, end = _check_offsets(claim["data_offsets"], spec, where)
    return Entry(spec, data_start + begin, data_start + end)


def _check_dtype(code: object, where: str) -> Any:
    if not isinstance(code, str) or code not in BY_CODE:
        raise FileError("unknown dtype", where=where, found=repr(code)[:80], expected=nearest(str(code)[:80], BY_CODE))
    return BY_CODE[code]


def _check_shape(shape: object, where: str) -> tuple[int, ...]:
    if not isinstance(shape, list) or not all(_is_count(length) for length in shape):
        raise FileError(
            "the shape is malformed", where=where, found=str(shape)[:80], expected="a list of integers >= 0"
        )
    if len(shape) > MOST_DIMENSIONS:
        raise FileError("too many dimensions", where=where, found=len(shape), expected=f"at most {MOST_DIMENSIONS}")
    if prod(length or 1 for length in shape) >= MOST_ELEMENTS:
        raise FileError(
            "the shape is too large", where=where, found=str(shape)[:80], expected="less than 2^60 elements"
        )
    return tuple(shape)


def _check_offsets(offsets: object, spec: TensorSpec, where: str) -> tuple[int, int]:
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        raise FileError(
            "data_offsets are malformed", where=where, found=str(offsets)[:80], expected="two integers >= 0"
        )
    begin, end = offsets
    if end - begin != spec.nbytes:
        expected = f"{spec.nbytes} bytes for {spec.dtype.label}{list(spec.shape)}"
        raise FileError(
            "data_offsets do not fit the shape", where=where, found=f"{end - begin} bytes", expected=expected
        )
    return begin, end


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _check_tiling(entries: list[Entry], data_start: int, file_size: int, file: str) -> None:
    position = data_start
    for entry in entries:
        if entry.begin != position:
            kind = "overlaps the one before" if entry.begin < position else "leaves a hole before it"
            where = f"{file}: tensor {entry.spec.name!r}"
            raise FileError(
                f"the tensor {kind}", where=where, found=f"start {entry.begin}", expected=f"start {position}"
            )
        position = entry.end
    if position != file_size:
        raise FileError(
            "the file's size does not fit its header", where=file, found=f"{file_size} bytes", expected=f"{position}"
        )
