"""LoRA files of kohya's scripts and LyCORIS: `lora_unet_<module>.lora_down.weight`, `.alpha` and the like, in one file.

The module's dots are underscores, so that only the base tells which weight is meant (see `kohya_names`). LoRA,
LoCon, LoHa, LoKr, their DoRA forms, whole differences and those of norms are read.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from merge_core.deltas import Delta, Dense
from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.artefact import Artefact
from merge_core.formats.kohya_names import COMPONENTS, spelt_out
from merge_core.formats.kohya_parts import ALPHA, LORA_KEYS, SCALE, Parts, factored
from merge_core.formats.lora_factors import check_added
from merge_core.formats.lycoris_parts import HADAMARD_KEYS, KRONECKER_KEYS
from merge_core.formats.peft_config import CONFIG
from merge_core.formats.weights_file import open_weights, tensor_names, weights_of
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "kohya"
SPECIAL_CASE_OF = ("checkpoint", "diffusers_lora")
DIFFERENCES = {".diff": ".weight", ".diff_b": ".bias", ".w_norm": ".weight", ".b_norm": ".bias"}
KEYS = (*LORA_KEYS, *HADAMARD_KEYS, *KRONECKER_KEYS, *DIFFERENCES, ALPHA, SCALE)
PREFIXES = tuple(prefix for prefix in COMPONENTS if prefix != "lora_")
OTHERS = {".a1.weight": "GLoRA", ".oft_blocks": "OFT", ".on_input": "IA3", ".lokr_t1": "LoKr with two cores"}


def recognises(files: FileTree) -> bool:
    if CONFIG in files:
        return False
    return any((name.endswith(KEYS) and _is_named(name)) or name.endswith(LORA_KEYS) for name in tensor_names(files))


def _is_named(name: str) -> bool:
    return name.startswith(PREFIXES) or ".hada_w" in name or ".lokr_w" in name


def read(files: FileTree) -> Artefact:
    """Raises FileError for parts that are missing or do not fit, UnsupportedError for an algorithm that is not read."""
    file = weights_of(files)
    tensors = open_weights(files[file], file)
    deltas: dict[str, Delta] = {}
    for module, parts in _by_module(tensors, file).items():
        deltas |= _deltas(module, parts, file)
    artefact = Artefact(NAME, "delta", deltas, tensors, facts={"ranks": _ranks(deltas)})
    return replace(artefact, settle=partial(_settled, artefact))


def _settled(artefact: Artefact, base: Mapping[str, StoredTensor]) -> Artefact:
    """The artefact under the base's names."""
    names = spelt_out(artefact.deltas, base)
    deltas: dict[str, Delta] = {}
    for name, delta in artefact.deltas.items():
        if names[name] in deltas:
            where, found = f"tensor '{names[name]}'", f"'{name[:200]}' and one more"
            raise FileError("two modules mean the same weight", where=where, found=found, expected="one of them")
        deltas[names[name]] = delta
    return replace(artefact, deltas=deltas, settle=None)


def _by_module(tensors: Mapping[str, StoredTensor], file: str) -> dict[str, Parts]:
    modules: dict[str, Parts] = {}
    for name, stored in tensors.items():
        key = next((key for key in KEYS if name.endswith(key)), None)
        if key is None:
            raise _unknown(name, file)
        modules.setdefault(name.removesuffix(key), {})[key] = stored
    return modules


def _unknown(name: str, file: str) -> Exception:
    where = f"{file}: tensor '{name[:200]}'"
    other = next((algorithm for key, algorithm in OTHERS.items() if name.endswith(key)), None)
    if other is not None:
        expected = "LoRA, LoCon, LoHa, LoKr, or whole differences"
        return UnsupportedError("this algorithm of LyCORIS is not read", where=where, found=other, expected=expected)
    expected = "a name that ends in one of " + ", ".join(KEYS)
    return FileError("an adapter tensor of unknown meaning", where=where, found="neither", expected=expected)


def _deltas(module: str, parts: Parts, file: str) -> dict[str, Delta]:
    """The deltas of one module, by the names of its weight and bias."""
    rest = {key: stored for key, stored in parts.items() if key not in DIFFERENCES}
    found: dict[str, Delta] = {}
    for key, field in DIFFERENCES.items():
        if key in parts:
            check_added(parts[key], file)
            if module + field in found:
                raise _twice(module, file)
            found[module + field] = Dense(parts[key], 1.0)
    if rest:
        if f"{module}.weight" in found:
            raise _twice(module, file)
        found[f"{module}.weight"] = factored(module, rest, file)
    return found


def _twice(module: str, file: str) -> FileError:
    where, expected = f"{file}: module '{module[:200]}'", "one of them"
    return FileError("a weight is adapted twice", where=where, found="factors and a difference", expected=expected)


def _ranks(deltas: Mapping[str, Delta]) -> list[int]:
    return sorted({delta.rank for delta in deltas.values() if hasattr(delta, "rank")})
