"""The readers, one line each, and the choice between them."""

from typing import Protocol

from merge_core.errors import UnsupportedError
from merge_core.formats import checkpoint, diffusers_lora, patch, peft_lora
from merge_core.formats.artefact import Artefact
from merge_core.sources import FileTree


class Reader(Protocol):
    """What each format's file offers."""

    NAME: str

    def recognises(self, files: FileTree) -> bool: ...

    def read(self, files: FileTree) -> Artefact: ...


READERS: tuple[Reader, ...] = (checkpoint, peft_lora, diffusers_lora, patch)


def read(files: FileTree) -> Artefact:
    """What the files say, by the one reader that recognises them.

    Raises UnsupportedError when no reader does or several do, FileError for broken content.
    """
    readers = [reader for reader in READERS if reader.recognises(files)]
    if len(readers) == 1:
        return readers[0].read(files)
    expected = "a safetensors checkpoint or one of: " + ", ".join(reader.NAME for reader in READERS)
    found = " and ".join(reader.NAME for reader in readers) or ", ".join(sorted(files)[:8]) or "no files"
    raise UnsupportedError("the files are not one known format", found=found, expected=expected)
