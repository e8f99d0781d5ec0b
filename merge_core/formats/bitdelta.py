"""BitDelta: `….mask`, packed signs in int32, and `….coeff`, one factor, for each projection; the rest is whole.

W = W₀ + coeff · (2·bit − 1). The mask of a weight [rows, columns] is [columns / 32, rows]: 32 columns in a word, the
first in its lowest bit. Liu et al., "BitDelta", 2024, https://arxiv.org/abs/2402.10193
"""

from kernels.storage import widen
from merge_core.deltas import Delta, Replacement
from merge_core.deltas.signs import Signs
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.weights_file import open_weights, tensor_names, weights_of
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor
from merge_core.tensors import DType

NAME = "bitdelta"
SPECIAL_CASE_OF = "checkpoint"
MASK, FACTOR = ".mask", ".coeff"


def recognises(files: FileTree) -> bool:
    names = tensor_names(files)
    return any(name.endswith(FACTOR) and name.removesuffix(FACTOR) + MASK in names for name in names)


def read(files: FileTree) -> Artefact:
    """Raises FileError for a mask without a factor, or one that is not packed in int32."""
    file = weights_of(files)
    tensors = dict(open_weights(files[file], file))
    modules = sorted(name.removesuffix(MASK) for name in tensors if name.endswith(MASK))
    deltas: dict[str, Delta] = {}
    for module in modules:
        deltas[f"{module}.weight"] = _signs(module, tensors[module + MASK], tensors.get(module + FACTOR), file)
    parts = {module + ending for module in modules for ending in (MASK, FACTOR)}
    whole = {name: stored for name, stored in tensors.items() if name not in parts}
    for name in whole.keys() & deltas.keys():
        raise FileError(
            "a weight is there twice", where=f"{file}: '{name[:200]}'", found="whole and as signs", expected="one"
        )
    deltas |= {name: Replacement(stored) for name, stored in whole.items()}
    return Artefact(NAME, "delta", deltas, tensors, frozenset(whole), facts={"signs": len(modules)})


def _signs(module: str, mask: StoredTensor, factor: StoredTensor | None, file: str) -> Signs:
    where = f"{file}: module '{module[:200]}'"
    if mask.spec.dtype is not DType.I32 or len(mask.spec.shape) != 2:
        raise FileError(
            "the mask is not packed", where=where, found=str(mask.spec), expected="int32 [columns/32, rows]"
        )
    if factor is None or not factor.spec.dtype.mergeable or factor.spec.size != 1:
        found = None if factor is None else str(factor.spec)
        raise FileError("the factor is missing or no number", where=where, found=found, expected=f"one float {FACTOR}")
    return Signs(mask, float(widen(factor.storage(), factor.spec.dtype.label)[0]))
