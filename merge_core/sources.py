"""Where a recipe's inputs come from: a name and its files, wherever they lie on this machine."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from merge_core.errors import FileError, NotFoundError

FileTree = Mapping[str, Path]
"""A repo's files: the path inside the repo, and where its bytes lie."""

WEIGHTS = ("model.safetensors", ".safetensors", "pytorch_model.bin")
"""Endings of names that nothing but a file of weights has; a folder of files may have one too."""


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
    """The source of a command-line recipe: a folder, or one safetensors file, as a path.

    Raises NotFoundError where there is none, FileError for one with files that cannot be read or weights that are none.
    """
    try:
        path = relative_to / Path(name).expanduser()
        is_file, is_folder = path.is_file(), path.is_dir()
        if not is_file and not is_folder:
            raise _no_source(name, "nothing")
        files = {path.name: path} if is_file else _files_in(path)
    except (OSError, RuntimeError) as error:  # a name too long, a folder that may not be read, no such user's home
        raise _no_source(name, str(error)) from error
    except FileError as error:
        raise error.within(_place(name)) from error
    for inside, file in files.items():
        if not os.access(file, os.R_OK):
            where, expected = f"{_place(name)}: {inside}", "leave to read it"
            raise FileError("the file cannot be read", where=where, found="permission denied", expected=expected)
    return Source(name, files)


def _files_in(folder: Path) -> FileTree:
    shown = [path for path in folder.rglob("*") if not _is_hidden(path.relative_to(folder))]
    names = {path.relative_to(folder).as_posix(): path for path in sorted(shown)}
    for name, path in names.items():
        if name.endswith(WEIGHTS) and not path.is_file() and not _is_in_use(path, name in WEIGHTS):
            raise FileError("weights that are no file", where=name, found=_what(path), expected="a file with bytes")
    return {name: path for name, path in names.items() if path.is_file()}


def _is_in_use(path: Path, is_weights: bool) -> bool:
    """Whether it is a folder whose name says nothing, or one that has files for all its name."""
    return path.is_dir() and not (is_weights and not any(path.iterdir()))


def _what(path: Path) -> str:
    if path.is_symlink() and not path.exists():
        return f"a link to {str(path.readlink())[:100]!r}, where nothing is"
    kinds = {"a folder": path.is_dir, "a pipe": path.is_fifo, "a socket": path.is_socket}
    return next((kind for kind, is_so in kinds.items() if is_so()), "a device")


def _no_source(name: str, found: str) -> NotFoundError:
    expected = "a model's folder or file"
    return NotFoundError("no such folder or file", where=_place(name), found=found[:200], expected=expected)


def _place(name: str) -> str:
    return f"source {name[:200]!r}"


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts) or path.name.endswith(".partial")
