"""Where a recipe's inputs come from: a name and its files, wherever they lie on this machine."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merge_core.errors import NotFoundError

FileTree = Mapping[str, Path]
"""A repo's files: the path inside the repo, and where its bytes lie."""


@dataclass(frozen=True, slots=True)
class Source:
    """One resolved source. `hashes` are the sha256 of the files by path, where somebody keeps them.

    `marks` tell a file's content from any other that it has had: its hash, or what the disk says of its last change.
    """

    name: str
    files: FileTree
    hashes: Mapping[str, str] | None = None
    marks: Mapping[str, str] = field(default_factory=dict)


Resolve = Callable[[str], Source]
"""Turns a source's name, as a recipe has it, into its files; raises NotFoundError."""


def folder_source(name: str, relative_to: Path = Path()) -> Source:
    """The source of a command-line recipe: a folder, or one safetensors file, as a path."""
    try:
        path = relative_to / Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, no such user's home
        raise _no_source(name, str(error)) from error
    if is_file:
        return Source(name, {path.name: path})
    if not is_folder:
        raise _no_source(name, "nothing")
    files = sorted(file for file in path.rglob("*") if file.is_file() and not _is_hidden(file.relative_to(path)))
    return Source(name, {file.relative_to(path).as_posix(): file for file in files})


def _no_source(name: str, found: str) -> NotFoundError:
    where = f"source {name[:200]!r}"
    return NotFoundError("no such folder or file", where=where, found=found[:200], expected="a model's folder or file")


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or path.name.endswith(".partial")
