"""A file of tensors by name, safetensors or pickled: the one place that tells them apart."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from merge_core.errors import FileError, StockpotError, UnsupportedError
from merge_core.formats.safetensors_file import open_tensors, read_header, read_json
from merge_core.formats.torch_file import open_pickled
from merge_core.sources import FileTree
from merge_core.statistics import FILES
from merge_core.stored import StoredTensor

PICKLES = (".bin", ".pt", ".pth", ".ckpt")

LEADERS = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
"""What leads to a checkpoint's weights, the first that is there."""


def open_weights(path: Path, file: str) -> Mapping[str, StoredTensor]:
    """Every tensor of the file by name. Raises FileError for a broken one, UnsupportedError for a pickle of more."""
    return open_pickled(path, file) if file.endswith(PICKLES) else open_tensors(path, file)


def present(files: FileTree, stem: str) -> str | None:
    """`stem`.safetensors where it is there, or else `stem`.bin: a pickle is read only without the other."""
    return next((stem + ending for ending in (".safetensors", ".bin") if stem + ending in files), None)


NO_WEIGHTS = (
    "pytorch_diff.bin",
    "training_args.bin",
    "optimizer.pt",
    "scheduler.pt",
    "rng_state.pth",
    "ternary.safetensors",
    *FILES,
)
"""Pickles, bitplanes and statistics with a meaning of their own, that are no state dict."""


def lone_weights(files: FileTree) -> str | None:
    """The only safetensors file of the folder itself, or the only pickle where there is no safetensors file at all."""
    safe = [name for name in files if name.endswith(".safetensors")]
    named = [name for name in safe or files if "/" not in name and name.endswith((".safetensors", *PICKLES))]
    found = [name for name in named if name not in NO_WEIGHTS]
    return found[0] if len(found) == 1 else None


def tensor_names(files: FileTree) -> frozenset[str]:
    """The names of the tensors in the checkpoint or lone weights file; none where they cannot be read.

    For readers that recognise a format by its names: what is broken is left to whoever reads the file.
    """
    leader = weights_of(files)
    return names_in(files[leader], leader) if leader else frozenset()


def names_in(path: Path, file: str) -> frozenset[str]:
    """The names of the tensors in one file, or in an index; none where it cannot be read."""
    status = path.stat()
    return _names_of(path, file, status.st_size, status.st_mtime_ns)


def weights_of(files: FileTree) -> str:
    """The file that leads to the weights, or an empty text where none does."""
    return next((name for name in LEADERS if name in files), None) or lone_weights(files) or ""


@lru_cache(maxsize=8)
def _names_of(path: Path, file: str, size: int, changed_ns: int) -> frozenset[str]:
    """Every reader asks, and the header of a large model takes a while to read."""
    try:
        return frozenset(_names(path, file))
    except StockpotError:
        return frozenset()


def _names(path: Path, file: str) -> Iterable[str]:
    if file.endswith(".json"):
        placement = read_json(path, file).get("weight_map")
        return placement if isinstance(placement, dict) else ()
    if file.endswith(PICKLES):
        return open_pickled(path, file)
    return (entry.spec.name for entry in read_header(path, file).entries)


def open_lone_pickle(path: Path, file: str) -> Mapping[str, StoredTensor]:
    """The tensors of a pickle under a name of nobody's convention; UnsupportedError where it holds something else."""
    try:
        return open_pickled(path, file)
    except FileError as error:
        message = f"weights in a pickle are not read: {error.message}"
        raise UnsupportedError(message, where=error.where, found=error.found, expected=error.expected) from error
