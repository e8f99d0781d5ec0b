"""A delta in another form, with what the form loses."""

from dataclasses import dataclass
from math import prod, sqrt

import numpy as np

from kernels.storage import widen
from merge_core.deltas import Delta, LowRank, Rows
from merge_core.deltas.adding import add_to
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec
from merge_core.truncation import truncated


@dataclass(frozen=True, slots=True)
class Converted:
    """The delta; `relative_error` is ‖original − delta‖ / ‖original‖, Frobenius, 0 for an original of zeros."""

    delta: Delta
    relative_error: float
    nbytes_before: int

    @property
    def nbytes(self) -> int:
        return self.delta.nbytes


def to_dense(delta: Delta, base: StoredTensor | None = None) -> Rows:
    """All elements, float32 in the delta's shape."""
    out = np.zeros(prod(delta.shape), dtype=np.float32)
    widened = None if base is None else _widened(base)
    add_to(delta.open(), out, 0, 1.0, widened)
    return out.reshape(delta.shape)


def to_sparse(delta: Delta, entries: int, base: StoredTensor | None = None) -> Converted:
    """The `entries` elements of the largest magnitude, of equal ones those that come first; zeros are left out."""
    dense = to_dense(delta, base).reshape(-1)
    order = np.argsort(-np.abs(dense), kind="stable")[: max(entries, 0)]
    kept = np.sort(order[dense[order] != 0.0]).astype(np.int64)
    sparse = SparseSum(kept, dense[kept], delta.shape)
    rest = dense.copy()
    rest[kept] = 0.0
    return Converted(sparse, _share(rest, dense), delta.nbytes)


def to_low_rank(delta: Delta, rank: int, name: str, base: StoredTensor | None = None) -> Converted:
    """The best product of two factors of that rank, in float32. Raises ValueError for what is no matrix."""
    if len(delta.shape) != 2 or not 0 < rank <= min(delta.shape):
        raise ValueError(f"rank: found {rank} for {list(delta.shape)}, expected a matrix and at most its smaller side")
    product = truncated(to_dense(delta, base), rank)
    a, b = (_stored(f"{name}.lora_{part}", factor) for part, factor in (("A", product.a), ("B", product.b)))
    return Converted(LowRank(a, b, 1.0, delta.shape), product.relative_error, delta.nbytes)


def _share(rest: Rows, whole: Rows) -> float:
    size = sqrt(float(np.square(whole.astype(np.float64)).sum()))
    return sqrt(float(np.square(rest.astype(np.float64)).sum())) / size if size > 0 else 0.0


def _stored(name: str, values: Rows) -> StoredTensor:
    data = np.ascontiguousarray(values, dtype=np.float32)
    return StoredTensor(TensorSpec(name, DType.F32, data.shape), data.reshape(-1).view(np.uint8), "converted")


def _widened(base: StoredTensor) -> Rows:
    return widen(base.storage(), base.spec.dtype.label)
