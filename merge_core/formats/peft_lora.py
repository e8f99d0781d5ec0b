"""LoRA adapters as PEFT saves them: adapter_config.json beside adapter_model.safetensors.

Names are `base_model.model.<module>.lora_A.weight` and the like; anything without `lora_` in it is a trained
copy of a module (`modules_to_save`, trained biases) and replaces the base's tensor.
"""

from collections.abc import Mapping

from merge_core.deltas import Composite, Delta, Dense, LowRank, Replacement
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.checkpoint import PICKLES, pickled
from merge_core.formats.lora_factors import check_added, check_pairs, check_product, keyed_once
from merge_core.formats.peft_lora_config import CONFIG, LoraConfig, Scaling, read_config
from merge_core.formats.safetensors_file import open_tensors
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "peft_lora"
WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
A_KEYS = (".lora_A.weight", ".lora_embedding_A")
B_KEYS = (".lora_B.weight", ".lora_embedding_B")
BIAS_KEY = ".lora_B.bias"


def recognises(files: FileTree) -> bool:
    return CONFIG in files


def read(files: FileTree) -> Artefact:
    """The adapter's deltas by weight name.

    Raises FileError for missing factors and shapes that do not multiply, UnsupportedError for variants whose
    weights mean something else (see `peft_lora_config`) and for weights in a pickle.
    """
    config = read_config(files[CONFIG])
    if WEIGHTS not in files:
        if any(name.endswith(PICKLES) for name in files):
            raise pickled(files, WEIGHTS)
        raise FileError("the adapter's weights are missing", found=sorted(files)[:5], expected=WEIGHTS)
    tensors = open_tensors(files[WEIGHTS], WEIGHTS)
    deltas = _read_deltas(keyed_once(((_strip(name), stored) for name, stored in tensors.items()), WEIGHTS), config)
    heads = frozenset(name for name, delta in deltas.items() if isinstance(delta, Replacement))
    ranks = sorted({delta.rank for delta in deltas.values() if isinstance(delta, LowRank)})
    return Artefact(NAME, "delta", deltas, tensors, heads, config.base_model_name_or_path, {"ranks": ranks})


def _strip(name: str) -> str:
    return _without_wrapper(name.removeprefix(PREFIX))


def _without_wrapper(name: str) -> str:
    """A trained copy's name in the base: PEFT's wrappers around a module leave theirs in the name."""
    return name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".").replace(".base_layer.", ".")


def _read_deltas(tensors: Mapping[str, StoredTensor], config: LoraConfig) -> dict[str, Delta]:
    """The deltas by weight name; a trained copy with a delta on top of it becomes one delta."""
    added = _read_added(tensors, config)
    whole: dict[str, Delta] = {name: Replacement(stored) for name, stored in tensors.items() if ".lora_" not in name}
    both = {name: _composite(name, tensors[name], delta) for name, delta in added.items() if name in whole}
    return added | whole | both


def _read_added(tensors: Mapping[str, StoredTensor], config: LoraConfig) -> dict[str, Delta]:
    """What the factors, and biases beside them, add to the base."""
    ups, downs = _by_module(tensors, B_KEYS), _by_module(tensors, A_KEYS)
    check_pairs(downs, ups, WEIGHTS)
    biases = {name.removesuffix(BIAS_KEY): stored for name, stored in tensors.items() if name.endswith(BIAS_KEY)}
    scaling = config.scaling(sorted(downs.keys() | biases.keys()))
    added: dict[str, Delta] = {
        f"{module}.weight": _low_rank(downs[module], ups[module], scaling[module], config) for module in downs
    }
    for module, stored in biases.items():
        check_added(stored, WEIGHTS)
        added[f"{module}.bias"] = Dense(stored, scaling[module].scale)
    _refuse_unknown(tensors)
    return added


def _refuse_unknown(tensors: Mapping[str, StoredTensor]) -> None:
    for name in tensors:
        if ".lora_" in name and not name.endswith((*A_KEYS, *B_KEYS, BIAS_KEY)):
            where = f"{WEIGHTS}: tensor '{name}'"
            expected = "a name that ends in one of " + ", ".join((*A_KEYS, *B_KEYS, BIAS_KEY))
            raise FileError("an adapter tensor of unknown meaning", where=where, found="neither", expected=expected)


def _by_module(tensors: Mapping[str, StoredTensor], keys: tuple[str, ...]) -> dict[str, StoredTensor]:
    named = ((name.removesuffix(key), stored) for name, stored in tensors.items() for key in keys if name.endswith(key))
    return keyed_once(named, WEIGHTS)


def _low_rank(a: StoredTensor, b: StoredTensor, scaling: Scaling, config: LoraConfig) -> LowRank:
    if a.spec.shape[:1] != (scaling.rank,):
        where, expected = f"{WEIGHTS}: tensor '{a.spec.name}'", f"[{scaling.rank}, …]"
        raise FileError("the rank differs from the config's", where=where, found=list(a.spec.shape), expected=expected)
    check_product(a, b, WEIGHTS)
    is_embedding = a.spec.name.endswith(A_KEYS[1])
    transposed = is_embedding or (config.fan_in_fan_out and len(a.spec.shape) == 2)
    shape = (b.spec.shape[0], *a.spec.shape[1:])
    return LowRank(a, b, scaling.scale, shape[::-1] if transposed else shape, transposed)


def _composite(name: str, copy: StoredTensor, delta: Delta) -> Composite:
    check_added(copy, WEIGHTS)
    if copy.spec.shape != delta.shape:
        found = f"a copy {list(copy.spec.shape)} and a delta {list(delta.shape)}"
        raise FileError("shapes differ", where=f"{WEIGHTS}: weight '{name}'", found=found, expected="equal shapes")
    return Composite(Replacement(copy), delta)
