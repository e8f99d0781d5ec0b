"""Single entries of a tensor as files list them, brought into order: sorted, unique, and within the tensor."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from kernels.storage import narrow, widen
from merge_core.alignment import align
from merge_core.deltas import Delta
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.stored import StoredTensor
from merge_core.tensors import DType

Indices = NDArray[np.int64]
Base = Mapping[str, StoredTensor]
Settle = Callable[[str, StoredTensor], Delta]
"""Makes the delta of one of the artefact's names, for the base's tensor that it means."""


def sparse_sum(indices: Indices, values: StoredTensor, shape: tuple[int, ...], where: str) -> SparseSum:
    """The values added at flat row-major indices in any order; those of the same entry add up.

    Raises FileError for as many indices as there are not values, and for an index outside of the tensor.
    """
    check_values(values, where)
    check_range(indices, prod(shape), where)
    if indices.shape != (values.spec.size,):
        found, expected = f"{indices.size} indices and {values.spec.size} values", "as many of both"
        raise FileError("indices and values do not fit", where=where, found=found, expected=expected)
    order = np.argsort(indices, kind="stable")
    unique, first = np.unique(indices[order], return_index=True)
    numbers = widen(values.storage(), values.spec.dtype.label)[order]
    sums = np.add.reduceat(numbers, first) if first.size else numbers
    return SparseSum(unique, sums, shape)


def check_values(values: StoredTensor, where: str) -> None:
    if not values.spec.dtype.mergeable or len(values.spec.shape) != 1:
        raise FileError("the values are no list of numbers", where=where, found=str(values.spec), expected="floats [n]")


def check_range(indices: Indices, size: int, where: str) -> None:
    """Raise FileError for the first index that is negative or beyond the tensor's `size` elements."""
    wrong = np.flatnonzero((indices < 0) | (indices >= size))
    if wrong.size:
        found = f"index {indices[wrong[0]]} (entry {wrong[0]})"
        expected = f"from 0 to {size - 1}" if size else "none: the tensor has no elements"
        raise FileError("an index is outside of the tensor", where=where, found=found, expected=expected)


def stored_indices(stored: StoredTensor, where: str) -> Indices:
    """The integers of an index tensor as int64; FileError for anything but int32 and int64."""
    if stored.spec.dtype not in (DType.I32, DType.I64):
        raise FileError("indices are integers", where=where, found=str(stored.spec), expected="int32 or int64")
    return stored.storage().astype(np.int64)


def as_stored_in(values: StoredTensor, dtype: DType) -> StoredTensor:
    """The values rounded to the type of the weight that they are added to."""
    if values.spec.dtype == dtype or not (dtype.mergeable and values.spec.dtype.mergeable):
        return values
    rounded = narrow(widen(values.storage(), values.spec.dtype.label), dtype.label)
    return StoredTensor(replace(values.spec, dtype=dtype), rounded.view(np.uint8), values.file)


def settled(artefact: Artefact, base: Base, settle: Settle) -> Artefact:
    """The artefact with each delta made for the tensor it means; one that means none is left for planning to name."""
    names = align(artefact.deltas, base)
    deltas = {
        name: settle(name, base[names[name]]) if name in names else delta for name, delta in artefact.deltas.items()
    }
    return replace(artefact, deltas=deltas, settle=None)
