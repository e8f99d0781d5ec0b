"""LoRA files as diffusers and SELMA write them: `unet.<module>.lora.down.weight` and `.lora.up.weight`.

The files carry no alpha: alpha = rank, so the scale is 1 (diffusers' `network_alphas=None`).
"""

from collections.abc import Mapping

from merge_core.deltas import Delta, LowRank
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.lora_factors import check_pairs, check_product, keyed_once
from merge_core.formats.safetensors_file import open_tensors
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "diffusers_lora"
WEIGHTS = "pytorch_lora_weights.safetensors"
DOWN, UP = ".lora.down.weight", ".lora.up.weight"
COMPONENT = "unet."


def recognises(files: FileTree) -> bool:
    return WEIGHTS in files and "adapter_config.json" not in files


def read(files: FileTree) -> Artefact:
    """Raises FileError for missing factors, and names any tensor that is not a factor."""
    tensors = open_tensors(files[WEIGHTS], WEIGHTS)
    for name in tensors:
        if not name.endswith((DOWN, UP)):
            raise FileError(
                "an adapter tensor of unknown meaning",
                where=f"{WEIGHTS}: tensor '{name}'",
                found="neither factor",
                expected=f"…{DOWN} or …{UP}",
            )
    downs, ups = _by_module(tensors, DOWN), _by_module(tensors, UP)
    check_pairs(downs, ups, WEIGHTS)
    deltas: dict[str, Delta] = {f"{module}.weight": _low_rank(downs[module], ups[module]) for module in downs}
    return Artefact(NAME, "delta", deltas, tensors, facts={"ranks": sorted({a.spec.shape[0] for a in downs.values()})})


def _by_module(tensors: Mapping[str, StoredTensor], key: str) -> dict[str, StoredTensor]:
    named = ((name.removesuffix(key), stored) for name, stored in tensors.items() if name.endswith(key))
    return keyed_once(((module.removeprefix(COMPONENT), stored) for module, stored in named), WEIGHTS)


def _low_rank(a: StoredTensor, b: StoredTensor) -> LowRank:
    check_product(a, b, WEIGHTS)
    return LowRank(a, b, 1.0, (b.spec.shape[0], *a.spec.shape[1:]))
