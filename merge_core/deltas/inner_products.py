"""Norms and inner products of deltas, in float64, without making them dense where algebra allows.

Two low-rank deltas meet in matrices of rank × rank, two sparse ones by merging their indices, a sparse one and any
other at its own entries; a ternary one's norm follows from its count. All else is read in blocks, added in the
order of elements: the same bits on every machine.
"""

from collections.abc import Iterator
from math import prod, sqrt

import numpy as np
from numpy.typing import NDArray

from kernels.gram import BLOCK, gram
from kernels.storage import widen
from merge_core.deltas.absent import Absent
from merge_core.deltas.contract import Delta, Loader, Rows, reads_of
from merge_core.deltas.low_rank import LowRank
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.deltas.summed import Summed
from merge_core.deltas.ternary import Ternary
from merge_core.stored import StoredTensor
from merge_core.tensors import row_size

CHUNK = 4 * BLOCK

Doubles = NDArray[np.float64]


def norm(delta: Delta, base: StoredTensor | None = None) -> float:
    """‖W − base‖, Frobenius. `base` is read for a delta that depends on it."""
    if isinstance(delta, Ternary):
        return abs(float(np.float32(delta.value))) * sqrt(delta.count)
    return sqrt(max(inner(delta, delta, base), 0.0))


def cosine(one: Delta, other: Delta, base: StoredTensor | None = None) -> float:
    """⟨one, other⟩ / (‖one‖ ‖other‖) in [−1, 1]; 0 where either is zero."""
    size = norm(one, base) * norm(other, base)
    return min(max(inner(one, other, base) / size, -1.0), 1.0) if size > 0 else 0.0


def inner(one: Delta, other: Delta, base: StoredTensor | None = None) -> float:
    """Σ over all elements of one · other. Raises ValueError for deltas of different shapes."""
    if one.shape != other.shape:
        raise ValueError(f"shapes: found {list(one.shape)} and {list(other.shape)}, expected equal ones")
    if isinstance(one, Absent) or isinstance(other, Absent):
        return 0.0
    if isinstance(one, Summed):
        return sum(inner(part, other, base) for part in one.parts)
    if isinstance(other, Summed):
        return sum(inner(one, part, base) for part in other.parts)
    if isinstance(one, LowRank) and isinstance(other, LowRank):
        return _low_ranks(one, other)
    if isinstance(one, SparseSum) and isinstance(other, SparseSum):
        return _sparse_pair(one, other)
    if isinstance(one, SparseSum):
        return _at_entries(one, other, base)
    return _at_entries(other, one, base) if isinstance(other, SparseSum) else _in_blocks(one, other, base)


def _low_ranks(one: LowRank, other: LowRank) -> float:
    """⟨U D, U' D'⟩ = Σ (Uᵀ U') ⊙ (D D'ᵀ): nothing larger than the factors."""
    first, second = one.open(), other.open()
    left = np.einsum("ki,kj->ij", first.up.astype(np.float64), second.up.astype(np.float64))
    right = np.einsum("ik,jk->ij", first.down.astype(np.float64), second.down.astype(np.float64))
    return first.scale * second.scale * float((left * right).sum())


def _sparse_pair(one: SparseSum, other: SparseSum) -> float:
    _, mine, theirs = np.intersect1d(one.indices, other.indices, assume_unique=True, return_indices=True)
    return float((one.values[mine].astype(np.float64) * other.values[theirs]).sum())


def _at_entries(sparse: SparseSum, other: Delta, base: StoredTensor | None) -> float:
    """Only those chunks of the other are read that the sparse one has entries in."""
    if isinstance(other, LowRank):
        return _at_entries_of_product(sparse, other)
    loader, total = other.open(), 0.0
    for start, size in _chunks(other):
        first, end = np.searchsorted(sparse.indices, (start, start + size))
        if first < end:
            row = _loaded(loader, start, size, base)
            values = sparse.values[first:end].astype(np.float64)
            total += float((values * row[sparse.indices[first:end] - start]).sum())
    return total


def _at_entries_of_product(sparse: SparseSum, other: LowRank) -> float:
    loader, total = other.open(), 0.0
    for first in range(0, sparse.indices.size, CHUNK):
        rows, columns = np.divmod(sparse.indices[first : first + CHUNK], loader.down.shape[1])
        entries = np.zeros(rows.size, dtype=np.float64)
        for up, down in zip(loader.up.T, loader.down, strict=True):
            entries += up[rows].astype(np.float64) * down[columns]
        total += float((sparse.values[first : first + CHUNK] * entries).sum())
    return loader.scale * total


def _in_blocks(one: Delta, other: Delta, base: StoredTensor | None) -> float:
    first, second, total = one.open(), other.open(), 0.0
    steps = _chunks(one) if reads_of(one) == "matrix" or reads_of(other) == "element" else _chunks(other)
    for start, size in steps:
        rows = np.stack([_loaded(loader, start, size, base) for loader in (first, second)])
        for product in gram(rows)[:, 0, 1]:
            total += float(product)
    return total


def _chunks(delta: Delta) -> Iterator[tuple[int, int]]:
    """Starts and sizes of runs of elements, whole rows or all of them where the delta asks for that."""
    size, reads = prod(delta.shape), reads_of(delta)
    row = row_size(delta.shape) if reads == "row" else 1
    step = max(size if reads == "matrix" else CHUNK // max(row, 1) * row, row, 1)
    return ((start, min(step, size - start)) for start in range(0, size, step))


def _loaded(loader: Loader, start: int, size: int, base: StoredTensor | None) -> Rows:
    out = np.empty(size, dtype=np.float32)
    part = None if base is None else widen(base.storage()[start : start + size], base.spec.dtype.label)
    loader.load_delta(out, start, part)
    return out
