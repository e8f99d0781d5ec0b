"""What a repo's files call their tensors, told without opening them: a search in the bytes of the headers."""

from pathlib import Path

from merge_core.sources import FileTree

MOST_BYTES = 50_000_000


def mentions(files: FileTree, *marks: str) -> bool:
    """Whether the header of a safetensors file at the top, or its index, has one of the marks in it."""
    wanted = [mark.encode() for mark in marks]
    headers = (_header(path) for name, path in sorted(files.items()) if "/" not in name and _is_header(name))
    return any(mark in header for header in headers for mark in wanted)


def _is_header(name: str) -> bool:
    return name.endswith((".safetensors", ".safetensors.index.json"))


def _header(path: Path) -> bytes:
    """The bytes that name the tensors; of a file that is none, whatever stands there."""
    with path.open("rb") as stream:
        if path.suffix == ".json":
            return stream.read(MOST_BYTES)
        return stream.read(min(int.from_bytes(stream.read(8), "little"), MOST_BYTES))
