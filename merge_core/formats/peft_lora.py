"""LoRA adapters as PEFT saves them: adapter_config.json beside adapter_model.safetensors.

Names are `base_model.model.<module>.lora_A.weight` and the like; anything without `lora_` in it is a trained
copy of a module (`modules_to_save`, trained biases) and replaces the base's tensor, or trained rows of it.
"""

from math import prod

from merge_core.deltas import Decomposed, Delta, Dense, LowRank
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.lora_factors import check_added, check_pairs, check_product, keyed_once
from merge_core.formats.peft_adapter import WEIGHTS, Tensors, heads, misfit, open_weights, unknown_part, with_copies
from merge_core.formats.peft_config import CONFIG
from merge_core.formats.peft_lora_config import LoraConfig, Scaling, read_config
from merge_core.formats.trained_tokens import KEYS as TOKEN_KEYS
from merge_core.formats.trained_tokens import trained_tokens
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "peft_lora"
A_KEYS = (".lora_A.weight", ".lora_embedding_A")
B_KEYS = (".lora_B.weight", ".lora_embedding_B")
BIAS_KEYS = (".lora_B.bias",)
MAGNITUDE_KEYS = (".lora_magnitude_vector", ".lora_magnitude_vector.weight")
KEYS = (*A_KEYS, *B_KEYS, *BIAS_KEYS, *MAGNITUDE_KEYS, *TOKEN_KEYS)
TOKENS_FIELD = "trainable_token_indices"


def recognises(files: FileTree) -> bool:
    return CONFIG in files


def read(files: FileTree) -> Artefact:
    """The adapter's deltas by weight name.

    Raises FileError for missing factors and shapes that do not multiply, UnsupportedError for variants whose
    weights mean something else (see `peft_lora_config`) and for weights in a pickle.
    """
    config = read_config(files[CONFIG])
    return lora_artefact(NAME, open_weights(files), config)


def lora_artefact(name: str, tensors: Tensors, config: LoraConfig) -> Artefact:
    """What the tensors, by names without PEFT's prefix, say under a checked config."""
    _refuse_unknown(tensors)
    whole = {name: stored for name, stored in tensors.items() if not name.endswith(KEYS)}
    added = _read_added(tensors, config)
    tokens = trained_tokens(_by_module(tensors, TOKEN_KEYS), config.trainable_token_indices, TOKENS_FIELD)
    for weight in sorted(tokens.keys() & (added.keys() | whole.keys())):
        expected = "trained rows, or factors or a copy"
        raise FileError("a weight is adapted twice", where=f"{WEIGHTS}: '{weight}'", found="both", expected=expected)
    deltas = with_copies(added, whole) | tokens
    ranks = sorted({delta.rank for delta in added.values() if isinstance(delta, LowRank)})
    base = config.base_model_name_or_path
    return Artefact(name, "delta", deltas, dict(tensors), heads(deltas), base, {"ranks": ranks})


def _read_added(tensors: Tensors, config: LoraConfig) -> dict[str, Delta]:
    """What the factors, and biases beside them, add to the base."""
    ups, downs = _by_module(tensors, B_KEYS), _by_module(tensors, A_KEYS)
    if config.has_factors or downs or ups:
        check_pairs(downs, ups, WEIGHTS)
    biases, magnitudes = _by_module(tensors, BIAS_KEYS), _by_module(tensors, MAGNITUDE_KEYS)
    _check_magnitudes(downs, magnitudes, config)
    scaling = config.scaling(sorted(downs.keys() | biases.keys()))
    added: dict[str, Delta] = {}
    for module, a in downs.items():
        low_rank = _low_rank(a, ups[module], scaling[module], config)
        added[f"{module}.weight"] = _decomposed(low_rank, magnitudes.get(module))
    for module, stored in biases.items():
        check_added(stored, WEIGHTS)
        added[f"{module}.bias"] = Dense(stored, scaling[module].scale)
    return added


def _refuse_unknown(tensors: Tensors) -> None:
    for name in tensors:
        if ".lora_" in name and not name.endswith(KEYS):
            raise unknown_part(name, KEYS)


def _check_magnitudes(downs: Tensors, magnitudes: Tensors, config: LoraConfig) -> None:
    """Raise FileError unless all modules have a magnitude under `use_dora`, and none has one without."""
    wrong = downs.keys() ^ magnitudes.keys() if config.use_dora else magnitudes.keys()
    for module in sorted(wrong):
        found = "a magnitude" if module in magnitudes else "no magnitude"
        expected = f"one for each pair of factors, with use_dora in {CONFIG}, or none at all"
        where = f"{WEIGHTS}: module '{module}'"
        raise FileError("DoRA magnitudes and factors do not agree", where=where, found=found, expected=expected)


def _by_module(tensors: Tensors, keys: tuple[str, ...]) -> dict[str, StoredTensor]:
    ending = {name: next((key for key in keys if name.endswith(key)), None) for name in tensors}
    return keyed_once(((name.removesuffix(key), tensors[name]) for name, key in ending.items() if key), WEIGHTS)


def _low_rank(a: StoredTensor, b: StoredTensor, scaling: Scaling, config: LoraConfig) -> LowRank:
    if a.spec.shape[:1] != (scaling.rank,):
        where, expected = f"{WEIGHTS}: tensor '{a.spec.name}'", f"[{scaling.rank}, …]"
        raise FileError("the rank differs from the config's", where=where, found=list(a.spec.shape), expected=expected)
    check_product(a, b, WEIGHTS)
    is_embedding = a.spec.name.endswith(A_KEYS[1])
    transposed = is_embedding or (config.fan_in_fan_out and len(a.spec.shape) == 2)
    shape = (b.spec.shape[0], *a.spec.shape[1:])
    return LowRank(a, b, scaling.scale, shape[::-1] if transposed else shape, transposed)


def _decomposed(delta: LowRank, magnitude: StoredTensor | None) -> Delta:
    """The delta with its magnitude for each output: each row, or each column of a weight that is transposed."""
    if magnitude is None:
        return delta
    check_added(magnitude, WEIGHTS)
    outputs = delta.lora_b.spec.shape[0]
    if prod(magnitude.spec.shape) != outputs:
        raise misfit("magnitude and factors do not fit", (magnitude, delta.lora_b), f"{outputs} magnitudes")
    return Decomposed(delta, magnitude, 1 if delta.transposed else 0)
