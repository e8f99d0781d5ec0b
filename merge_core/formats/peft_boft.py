"""BOFT adapters as PEFT saves them: `base_model.model.<module>.boft_R` and `.boft_s`, butterflies of rotations."""

from math import prod

from merge_core.deltas import Butterfly, Delta
from merge_core.formats.artefact import Artefact
from merge_core.formats.peft_adapter import Parts, heads, misfit, open_weights, part, split, with_copies
from merge_core.formats.peft_config import CONFIG, PeftConfig, peft_type, read_peft_config
from merge_core.sources import FileTree

NAME = "peft_boft"
SPECIAL_CASE_OF = "peft_lora"
ROTATIONS, SCALES = ".boft_R", ".boft_s"
HARMLESS = ("boft_block_size", "boft_block_num", "boft_n_butterfly_factor", "boft_dropout")
"""The stored shapes show them."""


def recognises(files: FileTree) -> bool:
    return peft_type(files) == "BOFT"


def read(files: FileTree) -> Artefact:
    """Raises FileError for parts that do not fit, UnsupportedError for a field that is not known."""
    config = read_peft_config(files[CONFIG], "BOFT", PeftConfig, HARMLESS)
    tensors = open_weights(files)
    parts, whole = split(tensors, (ROTATIONS, SCALES), (".boft_",))
    added: dict[str, Delta] = {f"{module}.weight": _butterfly(module, own) for module, own in parts.items()}
    deltas = with_copies(added, whole)
    return Artefact(NAME, "delta", deltas, tensors, heads(deltas), config.base_model_name_or_path)


def _butterfly(module: str, own: Parts) -> Butterfly:
    rotations, scales = part(own, ROTATIONS, module), part(own, SCALES, module)
    outputs = prod(scales.spec.shape)
    if not _is_butterfly(rotations.spec.shape) or sorted(scales.spec.shape) != [1, outputs] or outputs == 0:
        expected = "[factors, blocks, side, side] with blocks a multiple of 2^(factors - 1), and [outputs, 1]"
        raise misfit("not the factors of a butterfly", (rotations, scales), expected)
    return Butterfly(rotations, scales, (outputs, rotations.spec.shape[1] * rotations.spec.shape[2]))


def _is_butterfly(shape: tuple[int, ...]) -> bool:
    if len(shape) != 4 or 0 in shape or shape[2] != shape[3]:
        return False
    factors, blocks, side, _ = shape
    return factors == 1 or (factors <= blocks and blocks % 2 ** (factors - 1) == 0 and side % 2 == 0)
