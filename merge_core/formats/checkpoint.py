"""Full checkpoints: one safetensors file, or shards with an index, as transformers saves them."""

from collections.abc import Mapping
from pathlib import Path

from merge_core.deltas import Replacement
from merge_core.errors import FileError, UnsupportedError, nearest
from merge_core.formats.artefact import Artefact
from merge_core.formats.safetensors_file import open_tensors, read_json
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "checkpoint"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
    "patch.safetensors",
)
PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def recognises(files: FileTree) -> bool:
    return weights_file(files) is not None or (
        _only_pickles(files) and not any(name in files for name in ADAPTER_FILES)
    )


def weights_file(files: FileTree) -> str | None:
    """The file that leads to the weights: an index, `model.safetensors`, or the only safetensors file there is."""
    if INDEX in files or SINGLE in files:
        return INDEX if INDEX in files else SINGLE
    if any(name in files for name in ADAPTER_FILES):
        return None
    found = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    return found[0] if len(found) == 1 else None


def _only_pickles(files: FileTree) -> bool:
    return any(name.endswith(PICKLES) for name in files) and not any(name.endswith(".safetensors") for name in files)


def read(files: FileTree) -> Artefact:
    """Every tensor of the checkpoint, as a replacement of the base's.

    Raises FileError where the index and the shards disagree, UnsupportedError for pickled weights.
    """
    leader = weights_file(files)
    if leader is None:
        raise pickled(files, "a safetensors checkpoint")
    tensors = _read_shards(files) if leader == INDEX else open_tensors(files[leader], leader)
    deltas = {name: Replacement(stored) for name, stored in tensors.items()}
    return Artefact(NAME, "base", deltas, tensors)


def pickled(files: FileTree, expected: str) -> UnsupportedError:
    """The refusal of weights that can run code when they are loaded."""
    found = sorted(name for name in files if name.endswith(PICKLES))[:5]
    return UnsupportedError("weights in a pickle are not read", found=", ".join(found), expected=expected)


def _read_shards(files: FileTree) -> Mapping[str, StoredTensor]:
    placement = _weight_map(files)
    if SINGLE in files and SINGLE not in placement.values():
        message = f"both {SINGLE} and {INDEX} are present: readers would not agree which one counts"
        raise FileError(message, where=INDEX, found="two checkpoints", expected="one of them")
    tensors: dict[str, StoredTensor] = {}
    for shard, names in _by_shard(placement).items():
        tensors.update(_read_shard(files, shard, names))
    return {name: tensors[name] for name in placement}


def _by_shard(placement: Mapping[str, str]) -> dict[str, set[str]]:
    shards: dict[str, set[str]] = {shard: set() for shard in sorted(set(placement.values()))}
    for name, shard in placement.items():
        shards[shard].add(name)
    return shards


def _weight_map(files: FileTree) -> dict[str, str]:
    placement = read_json(files[INDEX], INDEX).get("weight_map")
    if not isinstance(placement, dict) or not all(isinstance(shard, str) for shard in placement.values()):
        found = type(placement).__name__ if not isinstance(placement, dict) else "a value that is no string"
        raise FileError("weight_map must map tensor names to file names", where=INDEX, found=found, expected="object")
    if not placement:
        raise FileError("weight_map is empty", where=INDEX, found="no tensor", expected="at least one")
    return placement


def _read_shard(files: FileTree, shard: str, expected: set[str]) -> Mapping[str, StoredTensor]:
    path: Path | None = files.get(shard)
    if path is None or not shard.endswith(".safetensors"):
        hint = nearest(shard[:200], [name for name in files if name.endswith(".safetensors")])
        raise FileError(
            "weight_map names a file that is not there", where=INDEX, found=repr(shard[:200]), expected=hint
        )
    tensors = open_tensors(path, shard)
    if expected != set(tensors):
        name = min(expected ^ set(tensors))
        found = "only in the index" if name in expected else "only in the file"
        raise FileError(
            "the index and the file disagree", where=f"{shard}: tensor {name[:200]!r}", found=found, expected="both"
        )
    return tensors
