"""One task of EMR-Merging: `….unified`, the vector that all tasks share, `….mask`, and `rescaler`, one factor.

τ = rescaler · mask ⊙ unified. The authors publish code and no file; these names are for a safetensors file or a
pickle made of its `vector_unified`, the task's `masks` and its entry of `rescalers`.
Huang et al., "EMR-Merging", 2024, https://arxiv.org/abs/2405.17461
"""

from kernels.storage import widen
from merge_core.deltas import Delta
from merge_core.deltas.masked_dense import MaskedDense
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.weights_file import open_weights, tensor_names, weights_of
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor
from merge_core.tensors import DType

NAME = "emr_task"
SPECIAL_CASE_OF = "checkpoint"
UNIFIED, MASK, RESCALER = ".unified", ".mask", "rescaler"


def recognises(files: FileTree) -> bool:
    names = tensor_names(files)
    return RESCALER in names and any(name.endswith(UNIFIED) for name in names)


def read(files: FileTree) -> Artefact:
    """Raises FileError for a vector without its mask, and for tensors that are neither."""
    file = weights_of(files)
    tensors = dict(open_weights(files[file], file))
    factor = _factor(tensors[RESCALER], file)
    names = sorted(name.removesuffix(UNIFIED) for name in tensors if name.endswith(UNIFIED))
    for name in sorted(tensors.keys() - {RESCALER} - {name + end for name in names for end in (UNIFIED, MASK)}):
        expected = f"names that end in {UNIFIED} or {MASK}"
        raise FileError("a tensor of unknown meaning", where=f"{file}: tensor '{name[:200]}'", expected=expected)
    deltas: dict[str, Delta] = {name: _masked(name, tensors, factor, file) for name in names}
    return Artefact(NAME, "delta", deltas, tensors, facts={"rescaler": factor})


def _factor(stored: StoredTensor, file: str) -> float:
    if not stored.spec.dtype.mergeable or stored.spec.size != 1:
        raise FileError("the rescaler is no number", where=file, found=str(stored.spec), expected="one float")
    return float(widen(stored.storage(), stored.spec.dtype.label)[0])


def _masked(name: str, tensors: dict[str, StoredTensor], factor: float, file: str) -> MaskedDense:
    values, mask = tensors[name + UNIFIED], tensors.get(name + MASK)
    is_mask = mask is not None and (mask.spec.dtype in (DType.BOOL, DType.U8) or mask.spec.dtype.mergeable)
    if mask is None or not is_mask or not values.spec.dtype.mergeable or mask.spec.shape != values.spec.shape:
        found = f"{values.spec} and {mask.spec if mask is not None else 'no mask'}"
        where, expected = f"{file}: weight '{name[:200]}'", "floats, and a mask of the same shape"
        raise FileError("vector and mask do not fit", where=where, found=found, expected=expected)
    return MaskedDense(values, mask, factor)
