"""Whose fault it is that a merged tensor holds NaN or infinity."""

import numpy as np

from kernels.all_finite import all_finite
from merge_core.deltas import Replacement
from merge_core.errors import FileError
from merge_core.methods import Chunk
from merge_core.planning.tensors import Merge
from merge_core.stored import StoredTensor


def not_finite(merge: Merge, chunk: Chunk) -> FileError:
    """The error for a chunk whose result is not finite: an input to blame, or an overflow of the output's dtype."""
    where = f"tensor '{chunk.tensor}'"
    found = _blamed(merge, chunk)
    if found is not None:
        return FileError("a value is not finite", where=where, found=found, expected="finite weights")
    label = merge.spec.dtype.label
    hint = "dtype: bfloat16 or float32, or a smaller scale" if label == "float16" else "smaller weights or scale"
    return FileError(f"a merged value is too large for {label}", where=where, expected=hint)


def _blamed(merge: Merge, chunk: Chunk) -> str | None:
    """The first input that is not finite in float32: the base, which every delta is taken from, or an ingredient."""
    if chunk.base is not None and not np.isfinite(chunk.base).all():
        return f"{_fault(merge.base, chunk)} in the base"
    for position, (entry, row) in enumerate(zip(merge.inputs, chunk.rows, strict=True)):
        if not np.isfinite(row).all():
            return f"{_fault(entry, chunk)} in ingredient {position}"
    return None


def _fault(entry: object, chunk: Chunk) -> str:
    stored = entry.stored if isinstance(entry, Replacement) else entry
    if not isinstance(stored, StoredTensor):
        return "NaN or infinity"
    part = stored.storage()[chunk.start : chunk.start + chunk.rows.shape[1]]
    return "a value beyond float32" if all_finite(part, stored.spec.dtype.label) else "NaN or infinity"
