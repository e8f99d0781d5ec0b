"""DSEE: `{query,value}_lora_{a,b}.weight` and a pruned `…_lora_s.weight_orig` with `.weight_mask`, in a checkpoint.

The delta is (α/r)·(B·A + S ⊙ M), as the model's forward pass has it; α is `lora_alpha` of config.json, since the
file does not say it. Chen et al., "DSEE", 2023, https://arxiv.org/abs/2111.00160
"""

import re
from collections.abc import Mapping
from math import isfinite
from typing import Any

from merge_core.deltas import Delta, LowRank
from merge_core.deltas.masked_dense import MaskedDense
from merge_core.deltas.summed import Summed
from merge_core.errors import FileError, UnsupportedError
from merge_core.formats import checkpoint
from merge_core.formats.artefact import Artefact
from merge_core.formats.lora_factors import check_product
from merge_core.formats.safetensors_file import read_json
from merge_core.formats.weights_file import tensor_names
from merge_core.formats.with_weights import artefact, check_parts
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "dsee"
SPECIAL_CASE_OF = "checkpoint"
CONFIG = "config.json"
ALPHA = "lora_alpha"

PART = re.compile(r"(?P<module>.+)_lora_(?P<part>a\.weight|b\.weight|s\.weight_orig|s\.weight_mask)")
A, B, VALUES, MASK = "a.weight", "b.weight", "s.weight_orig", "s.weight_mask"


def recognises(files: FileTree) -> bool:
    return any((match := PART.fullmatch(name)) and match["part"] == MASK for name in tensor_names(files))


def read(files: FileTree) -> Artefact:
    """Raises UnsupportedError where α is not said, FileError for parts that are missing or do not fit."""
    tensors = checkpoint.read_tensors(files)
    whole: dict[str, StoredTensor] = {}
    modules: dict[str, dict[str, StoredTensor]] = {}
    for name, stored in tensors.items():
        match = PART.fullmatch(name)
        if match is None:
            whole[name] = stored
        else:
            modules.setdefault(match["module"], {})[match["part"]] = stored
    alpha = _alpha(files)
    added: dict[str, Delta] = {f"{module}.weight": _delta(module, parts, alpha) for module, parts in modules.items()}
    return artefact(NAME, added, whole, tensors, {"alpha": alpha})


def _alpha(files: FileTree) -> float:
    config: Mapping[str, Any] = read_json(files[CONFIG], CONFIG) if CONFIG in files else {}
    alpha = config.get(ALPHA)
    if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not isfinite(alpha) or abs(alpha) > 2**32:
        message, found = "the file does not say how its parts are scaled", repr(alpha)[:80]
        raise UnsupportedError(
            message, where=f"{CONFIG}: {ALPHA}", found=found, expected="the number it was trained with"
        )
    return float(alpha)


def _delta(module: str, parts: Mapping[str, StoredTensor], alpha: float) -> Summed:
    file = next(iter(parts.values())).file
    where = f"{file}: '{module[:200]}_lora'"
    check_parts(parts, (A, B, VALUES, MASK), where, 2)
    a, b, values, mask = (parts[part] for part in (A, B, VALUES, MASK))
    check_product(a, b, file)
    shape = (b.spec.shape[0], a.spec.shape[1])
    if values.spec.shape != shape or mask.spec.shape != shape:
        found = f"{list(values.spec.shape)} and {list(mask.spec.shape)}"
        raise FileError("values and mask do not fit the factors", where=where, found=found, expected=str(list(shape)))
    scale = alpha / a.spec.shape[0]
    return Summed((LowRank(a, b, scale, shape), MaskedDense(values, mask, scale)))
