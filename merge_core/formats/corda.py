"""CorDA checkpoints of its own repo: `X.ALinear.weight`, `X.BLinear.weight` and `X.weight_residual` in place of X.

Yang et al., "CorDA", 2024, https://arxiv.org/abs/2406.05223; merged as in its merge_adapter_for_corda.py, but with
the bias, which the adapter keeps in ALinear and the script drops.
"""

from collections.abc import Mapping

from merge_core.deltas import Composite, Delta, LowRank, Replacement
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.checkpoint import read as read_checkpoint
from merge_core.formats.lora_factors import check_added, check_product, keyed_once
from merge_core.formats.weights_file import tensor_names
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "corda"
SPECIAL_CASE_OF = "checkpoint"
UP, DOWN, RESIDUAL = ".ALinear.weight", ".BLinear.weight", ".weight_residual"
BIAS = ".ALinear.bias"


def recognises(files: FileTree) -> bool:
    names = tensor_names(files)
    return any(name.endswith(RESIDUAL) for name in names) and any(name.endswith(UP) for name in names)


def read(files: FileTree) -> Artefact:
    """Every weight of the fine-tune, A B + residual where it has these. Raises FileError for parts without partners."""
    tensors = read_checkpoint(files).tensors
    parts = {key: _by_module(tensors, key) for key in (UP, DOWN, RESIDUAL)}
    deltas: dict[str, Delta] = {
        name.replace(BIAS, ".bias"): Replacement(stored)
        for name, stored in tensors.items()
        if not name.endswith((UP, DOWN, RESIDUAL))
    }
    for module in sorted(set().union(*parts.values())):
        deltas[f"{module}.weight"] = _merged(module, parts)
    return Artefact(NAME, "delta", deltas, tensors, frozenset(deltas))


def _by_module(tensors: Mapping[str, StoredTensor], key: str) -> dict[str, StoredTensor]:
    named = ((name.removesuffix(key), stored) for name, stored in tensors.items() if name.endswith(key))
    return keyed_once(named, "checkpoint")


def _merged(module: str, parts: Mapping[str, Mapping[str, StoredTensor]]) -> Composite:
    missing = next((key for key, own in parts.items() if module not in own), None)
    if missing is not None:
        where, found = f"module '{module[:200]}'", "only some of a CorDA adapter"
        raise FileError("a part is missing", where=where, found=found, expected=module[:200] + missing)
    up, down, residual = (parts[key][module] for key in (UP, DOWN, RESIDUAL))
    check_product(down, up, residual.file)
    check_added(residual, residual.file)
    shape = (up.spec.shape[0], *down.spec.shape[1:])
    if residual.spec.shape != shape:
        where = f"{residual.file}: tensor '{residual.spec.name[:200]}'"
        message, expected = "the residual does not fit A B", list(shape)
        raise FileError(message, where=where, found=list(residual.spec.shape), expected=expected)
    return Composite(Replacement(residual), LowRank(down, up, 1.0, shape))
