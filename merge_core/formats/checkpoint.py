"""Full checkpoints: one file of weights, or shards with an index, as transformers saves them.

Safetensors go before pickles of the same weights; pickles are read without running them.
"""

from collections.abc import Mapping
from pathlib import Path

from merge_core.deltas import Replacement
from merge_core.errors import FileError, UnsupportedError, nearest
from merge_core.formats.artefact import Artefact
from merge_core.formats.safetensors_file import read_json
from merge_core.formats.weights_file import LEADERS, PICKLES, lone_weights, open_lone_pickle, open_weights
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "checkpoint"
ADAPTER_FILES = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_lora_weights.safetensors",
    "patch.safetensors",
    "ternary.safetensors",
)


def recognises(files: FileTree) -> bool:
    return weights_file(files) is not None or (
        _only_pickles(files) and not any(name in files for name in ADAPTER_FILES)
    )


def weights_file(files: FileTree) -> str | None:
    """The file that leads to the weights: an index, the usual name, or the only file of weights there is."""
    leader = next((name for name in LEADERS if name in files), None)
    if leader is not None or any(name in files for name in ADAPTER_FILES):
        return leader
    return lone_weights(files)


def _only_pickles(files: FileTree) -> bool:
    return any(name.endswith(PICKLES) for name in files) and not any(name.endswith(".safetensors") for name in files)


def read(files: FileTree) -> Artefact:
    """Every tensor of the checkpoint, as a replacement of the base's.

    Raises FileError where the index and the shards disagree, UnsupportedError for a pickle of more than tensors.
    """
    tensors = read_tensors(files)
    deltas = {name: Replacement(stored) for name, stored in tensors.items()}
    return Artefact(NAME, "base", deltas, tensors)


def read_tensors(files: FileTree) -> Mapping[str, StoredTensor]:
    """The checkpoint's tensors by name."""
    leader = weights_file(files)
    if leader is None:
        raise pickled(files, "a safetensors checkpoint")
    if leader.endswith(".json"):
        return _read_shards(files, leader)
    is_lone = leader not in LEADERS and leader.endswith(PICKLES)
    return (open_lone_pickle if is_lone else open_weights)(files[leader], leader)


def pickled(files: FileTree, expected: str) -> UnsupportedError:
    """The refusal of several pickles, none of which says that it holds the weights."""
    found = sorted(name for name in files if name.endswith(PICKLES))[:5]
    return UnsupportedError("these pickles are not read", found=", ".join(found), expected=expected)


def _read_shards(files: FileTree, index: str) -> Mapping[str, StoredTensor]:
    placement = _weight_map(files, index)
    single = index.removesuffix(".index.json")
    if single in files and single not in placement.values():
        message = f"both {single} and {index} are present: readers would not agree which one counts"
        raise FileError(message, where=index, found="two checkpoints", expected="one of them")
    tensors: dict[str, StoredTensor] = {}
    for shard, names in _by_shard(placement).items():
        tensors.update(_read_shard(files, index, shard, names))
    return {name: tensors[name] for name in placement}


def _by_shard(placement: Mapping[str, str]) -> dict[str, set[str]]:
    shards: dict[str, set[str]] = {shard: set() for shard in sorted(set(placement.values()))}
    for name, shard in placement.items():
        shards[shard].add(name)
    return shards


def _weight_map(files: FileTree, index: str) -> dict[str, str]:
    placement = read_json(files[index], index).get("weight_map")
    if not isinstance(placement, dict) or not all(isinstance(shard, str) for shard in placement.values()):
        found = type(placement).__name__ if not isinstance(placement, dict) else "a value that is no string"
        raise FileError("weight_map must map tensor names to file names", where=index, found=found, expected="object")
    if not placement:
        raise FileError("weight_map is empty", where=index, found="no tensor", expected="at least one")
    return placement


def _read_shard(files: FileTree, index: str, shard: str, expected: set[str]) -> Mapping[str, StoredTensor]:
    path: Path | None = files.get(shard)
    ending = Path(index.removesuffix(".index.json")).suffix
    if path is None or not shard.endswith(ending):
        hint = nearest(shard[:200], [name for name in files if name.endswith(ending)])
        raise FileError(
            "weight_map names a file that is not there", where=index, found=repr(shard[:200]), expected=hint
        )
    tensors = open_weights(path, shard)
    if expected != set(tensors):
        name = min(expected ^ set(tensors))
        found = "only in the index" if name in expected else "only in the file"
        raise FileError(
            "the index and the file disagree", where=f"{shard}: tensor {name[:200]!r}", found=found, expected="both"
        )
    return tensors
