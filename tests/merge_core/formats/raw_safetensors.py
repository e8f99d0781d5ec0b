"""Safetensors files written byte by byte, so that every claim in them can lie."""

import json
from pathlib import Path


def entry(dtype: str = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def raw_file(header: object, data: bytes = bytes(8), length: int | None = None) -> bytes:
    """`header` is an object to be written as JSON, or the header's bytes; `length` the claim in the prefix."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def written(folder: Path, content: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(content)
    return path
