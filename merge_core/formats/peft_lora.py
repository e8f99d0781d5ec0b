"""LoRA adapters as PEFT saves them: adapter_config.json beside adapter_model.safetensors.

Names are `base_model.model.<module>.lora_A.weight` and the like; anything without `lora_` in it is a trained
copy of a module (`modules_to_save`, trained biases) and replaces the base's tensor.
"""

from collections.abc import Mapping

from merge_core.deltas import Delta, Dense, LowRank, Replacement
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.lora_factors import check_pairs, check_product
from merge_core.formats.peft_lora_config import CONFIG, LoraConfig, read_config
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
    weights mean something else (see `peft_lora_config`).
    """
    if WEIGHTS not in files:
        raise FileError("the adapter's weights are missing", found=sorted(files)[:5], expected=WEIGHTS)
    config = read_config(files[CONFIG])
    tensors = open_tensors(files[WEIGHTS], WEIGHTS)
    deltas = _read_deltas({_strip(name): stored for name, stored in tensors.items()}, config)
    heads = frozenset(name for name, delta in deltas.items() if isinstance(delta, Replacement))
    ranks = sorted({delta.rank for delta in deltas.values() if isinstance(delta, LowRank)})
    return Artefact(NAME, "delta", deltas, tensors, heads, config.base_model_name_or_path, {"ranks": ranks})


def _strip(name: str) -> str:
    return name.removeprefix(PREFIX)


def _read_deltas(tensors: Mapping[str, StoredTensor], config: LoraConfig) -> dict[str, Delta]:
    ups, downs = _by_module(tensors, B_KEYS), _by_module(tensors, A_KEYS)
    check_pairs(downs, ups, WEIGHTS)
    deltas: dict[str, Delta] = {
        f"{module}.weight": _low_rank(module, downs[module], ups[module], config) for module in downs
    }
    for name, stored in tensors.items():
        if name.endswith(BIAS_KEY):
            module = name.removesuffix(BIAS_KEY)
            deltas[f"{module}.bias"] = Dense(stored, config.scale(module))
        elif ".lora_" not in name:
            deltas[_without_wrapper(name)] = Replacement(stored)
        elif not name.endswith(A_KEYS + B_KEYS):
            raise FileError(
                "an adapter tensor of unknown meaning", where=f"{WEIGHTS}: tensor '{name}'", expected="lora_A or lora_B"
            )
    return deltas


def _by_module(tensors: Mapping[str, StoredTensor], keys: tuple[str, ...]) -> dict[str, tuple[str, StoredTensor]]:
    """Module name → (which of `keys` it came under, the factor)."""
    return {
        name.removesuffix(key): (key, stored) for name, stored in tensors.items() for key in keys if name.endswith(key)
    }


def _without_wrapper(name: str) -> str:
    """PEFT before 0.6 kept its wrapper's names: `classifier.modules_to_save.default.weight`, `x.base_layer.bias`."""
    return name.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", ".").replace(".base_layer.", ".")


def _low_rank(module: str, down: tuple[str, StoredTensor], up: tuple[str, StoredTensor], config: LoraConfig) -> LowRank:
    (key, a), (_, b) = down, up
    is_embedding = key == A_KEYS[1]
    rank = config.rank(module)
    if a.spec.shape[:1] != (rank,):
        where = f"{WEIGHTS}: tensor '{a.spec.name}'"
        raise FileError(
            "the rank differs from the config's", where=where, found=list(a.spec.shape), expected=f"[{rank}, …]"
        )
    check_product(a, b, WEIGHTS)
    transposed = is_embedding or (config.fan_in_fan_out and len(a.spec.shape) == 2)
    shape = (b.spec.shape[0], *a.spec.shape[1:])
    return LowRank(a, b, config.scale(module), shape[::-1] if transposed else shape, transposed)
