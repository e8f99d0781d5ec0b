"""What arrives at the door: is a file sound, and what do a repo's files amount to."""

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from kernels.all_finite import all_finite
from merge_core.errors import FileError, UnsupportedError
from merge_core.formats import ternary
from merge_core.formats.artefact import Artefact
from merge_core.formats.reading import reader_of
from merge_core.formats.safetensors_file import open_tensors, read_json
from merge_core.formats.statistics import check_statistics
from merge_core.formats.torch_file import open_pickled
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

OBJECTS = ("config.json", "adapter_config.json", "model.safetensors.index.json")
"""The JSON files that readers rely on: each must be an object."""

WEIGHT_PICKLES = ("pytorch_model.bin", "adapter_model.bin", "pytorch_lora_weights.bin")
"""Pickles that hold tensors by name; any other may be of anything, and is kept as it is."""

SCAN = 1 << 20
"""Elements checked at a time, so that a scan keeps little in memory."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a repo's files are: a `base`, a `delta`, or just `files` with the `reason` why they are no more.

    Files of a known `format` may be no more than files: what acts only at inference time is kept and handed out.
    `artefact` is what they say, where they say something.
    """

    kind: Literal["base", "delta", "files"]
    format: str
    reason: str | None
    summary: dict[str, Any]
    artefact: Artefact | None = None


def check_file(name: str, path: Path) -> None:
    """Refuse a file that could not be used: a broken safetensors file, one with NaN or infinity, broken JSON.

    `name` is the file's path in its repo. Raises FileError that names the tensor.
    """
    if name.endswith(".safetensors"):
        for stored in open_tensors(path, name).values():
            _check_finite(stored)
        if name == ternary.FILE:
            ternary.check_ternary(path)
    elif PurePosixPath(name).name in OBJECTS:
        read_json(path, name)
    elif PurePosixPath(name).name in WEIGHT_PICKLES:
        _check_pickled(name, path)


def _check_pickled(name: str, path: Path) -> None:
    """One that holds more than tensors is kept, never loaded, and said to be no more than a file."""
    with suppress(UnsupportedError):
        for stored in open_pickled(path, name).values():
            _check_finite(stored)


def _check_finite(stored: StoredTensor) -> None:
    if not stored.spec.dtype.mergeable:
        return
    storage = stored.storage()
    for start in range(0, storage.size, SCAN):
        if not all_finite(storage[start : start + SCAN], stored.spec.dtype.label):
            where = f"{stored.file}: tensor '{stored.spec.name}'"
            raise FileError("a value is not finite", where=where, found="NaN or infinity", expected="finite weights")


def inspect(files: FileTree) -> Inspection:
    """Read headers and configs, and say what the files are. Raises FileError for broken content."""
    name = "unknown"
    try:
        reader = reader_of(files)
        name = reader.NAME
        artefact = reader.read(files)
        statistics = check_statistics(files, artefact)
    except UnsupportedError as error:
        return Inspection("files", name, str(error), {})
    return Inspection(artefact.kind, artefact.format, None, _summary(artefact) | {"statistics": statistics}, artefact)


def _summary(artefact: Artefact) -> dict[str, Any]:
    return {
        "tensors": len(artefact.deltas),
        "elements": sum(stored.spec.size for stored in artefact.tensors.values()),
        "bytes": sum(stored.spec.nbytes for stored in artefact.tensors.values()),
        "dtypes": dict(Counter(stored.spec.dtype.label for stored in artefact.tensors.values())),
        "kinds": dict(Counter(delta.kind for delta in artefact.deltas.values())),
        "declared_base": artefact.declared_base,
        **artefact.facts,
    }
