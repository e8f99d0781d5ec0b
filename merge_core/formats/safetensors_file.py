"""Safetensors files, memory-mapped: the header is checked before any byte of data is believed."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from merge_core.errors import FileError
from merge_core.formats.safetensors_header import Header, header_length, parse_header, without_duplicates
from merge_core.mapped_file import map_file
from merge_core.stored import StoredTensor


def read_header(path: Path, file: str | None = None) -> Header:
    """The checked header of the file at `path`; `file` is the name that errors use.

    Raises FileError for anything that is not a complete, well-formed safetensors file.
    """
    name = file or path.name
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = header_length(stream.read(8), size, name)
        return parse_header(stream.read(length), size, name)


def open_tensors(path: Path, file: str | None = None) -> Mapping[str, StoredTensor]:
    """Every tensor of the file by name, in file order, as views of its mapping."""
    name = file or path.name
    return view_tensors(read_header(path, name), path, name)


def view_tensors(header: Header, path: Path, name: str) -> Mapping[str, StoredTensor]:
    """The tensors of a file whose header has been read."""
    data = map_file(path) if header.entries else np.empty(0, dtype=np.uint8)
    return MappingProxyType(
        {
            entry.spec.name: StoredTensor(entry.spec, data[entry.begin : entry.end], name, path, entry.begin)
            for entry in header.entries
        }
    )


def read_json(path: Path, file: str, most_bytes: int = 50_000_000) -> dict[str, object]:
    """The JSON object in a small file from outside; FileError when it is too large or not an object."""
    size = path.stat().st_size
    if size > most_bytes:
        raise FileError("the file is too large", where=file, found=f"{size} bytes", expected=f"at most {most_bytes}")
    return parse_json_object(path.read_bytes(), file)


def parse_json_object(raw: bytes, file: str) -> dict[str, object]:
    """The JSON object in `raw`; FileError for anything else."""
    try:
        content = json.loads(raw, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise FileError(f"not valid JSON: {error}", where=file) from error
    if not isinstance(content, dict):
        raise FileError("not a JSON object", where=file, found=type(content).__name__, expected="object")
    return content
