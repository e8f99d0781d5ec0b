"""The readers, one line each, and the choice between them."""

from typing import Protocol

from merge_core.errors import UnsupportedError
from merge_core.formats import (
    bitdelta,
    checkpoint,
    composable_sft,
    corda,
    diffusers_lora,
    dsee,
    emr_task,
    inference_only,
    kohya,
    lofit,
    loldu,
    lora_xs,
    patch,
    peft_boft,
    peft_ia3,
    peft_loha,
    peft_lokr,
    peft_lora,
    peft_oft,
    peft_vera,
    sara,
    spiel,
    spt,
    ssf,
    ternary,
)
from merge_core.formats.artefact import Artefact
from merge_core.sources import FileTree


class Reader(Protocol):
    """What each format's file offers.

    One that reads a special case of what others recognise names them, or the one, in `SPECIAL_CASE_OF`.
    """

    NAME: str

    def recognises(self, files: FileTree) -> bool: ...

    def read(self, files: FileTree) -> Artefact: ...


READERS: tuple[Reader, ...] = (
    checkpoint,
    peft_lora,
    peft_loha,
    peft_lokr,
    peft_ia3,
    peft_vera,
    peft_oft,
    peft_boft,
    lora_xs,
    corda,
    inference_only,
    kohya,
    diffusers_lora,
    patch,
    composable_sft,
    sara,
    spiel,
    spt,
    ternary,
    ssf,
    lofit,
    dsee,
    loldu,
    bitdelta,
    emr_task,
)


def reader_of(files: FileTree) -> Reader:
    """The one reader that recognises the files; that of a special case goes before that of the ordinary one.

    Raises UnsupportedError when no reader does or several do.
    """
    willing = [reader for reader in READERS if reader.recognises(files)]
    ordinary = {name for reader in willing for name in _ordinary_cases(reader)}
    readers = [reader for reader in willing if reader.NAME not in ordinary]
    if len(readers) == 1:
        return readers[0]
    expected = "a safetensors checkpoint or one of: " + ", ".join(reader.NAME for reader in READERS)
    found = " and ".join(reader.NAME for reader in readers) or ", ".join(sorted(files)[:8]) or "no files"
    raise UnsupportedError("the files are not one known format", found=found, expected=expected)


def _ordinary_cases(reader: Reader) -> tuple[str, ...]:
    """The readers whose special case this one reads."""
    names: str | tuple[str, ...] = getattr(reader, "SPECIAL_CASE_OF", ())
    return (names,) if isinstance(names, str) else names


def read(files: FileTree) -> Artefact:
    """What the files say. Raises UnsupportedError for what is no one known format, FileError for broken content."""
    return reader_of(files).read(files)
