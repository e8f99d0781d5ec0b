"""What a delta amounts to, tensor by tensor and in sum: kind, rank, density, norm and bytes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite, prod, sqrt
from typing import Any

from merge_core.deltas import (
    Absent,
    Composite,
    Cored,
    Decomposed,
    Delta,
    Dense,
    Hadamard,
    Kronecker,
    LowRank,
    Replacement,
    RowReplacement,
    Scale,
    SharedFactors,
    Sparse,
    Ternary,
    Tucker,
)
from merge_core.deltas.contract import reads_of, unbounded
from merge_core.deltas.inner_products import norm
from merge_core.deltas.sparse_sum import SparseSum
from merge_core.deltas.summed import Summed
from merge_core.deltas.unsettled import Unsettled
from merge_core.stored import StoredTensor
from merge_core.tensors import row_size

WORK = 1 << 29
"""Multiplications that the norms of one delta may take: half a second or so."""

READ_WORK = 4
"""What an element that is read and squared takes, in multiplications."""

COMPUTED_WORK = 16
"""The same for one that is computed from others."""

MOST_OPEN_BYTES = 1 << 27
"""Memory that a delta may take while it is measured."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One touched tensor. `density` is the share of its entries that may change, `norm` that of the delta.

    None stands for what cannot be told from the delta alone, or would take too long.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    rank: int | None
    density: float | None
    norm: float | None
    bytes: int


@dataclass(slots=True)
class Measuring:
    """Measures deltas within a bound on the work. `base` has the tensors of the base where they may be read."""

    base: Mapping[str, StoredTensor] = field(default_factory=dict)
    left: int = WORK

    def facts(self, name: str, delta: Delta) -> TensorFacts:
        """The facts of one delta, which touches the tensor `name`."""
        density = density_of(delta)
        return TensorFacts(
            name, delta.kind, delta.shape, rank_of(delta), density, self._norm(name, delta), delta.nbytes
        )

    def _norm(self, name: str, delta: Delta) -> float | None:
        base = None if stands_alone(delta) else self.base.get(name)
        if isinstance(delta, Unsettled) or (base is None and not stands_alone(delta)):
            return None
        if base is not None and (base.spec.shape != delta.shape or not base.spec.dtype.mergeable):
            return None
        work = _work(delta)
        if work > self.left or _open_bytes(delta) > MOST_OPEN_BYTES:
            return None
        self.left -= work
        with unbounded():
            found = norm(delta, base)
        return found if isfinite(found) else None


def in_sum(facts: Iterable[TensorFacts]) -> dict[str, Any]:
    """How many tensors; density over all their entries, the highest rank, the norm and the bytes of all of them.

    A sum with a part that is not known is None.
    """
    rows = list(facts)
    sizes = [prod(row.shape) for row in rows]
    changed = [None if row.density is None else row.density * size for row, size in zip(rows, sizes, strict=True)]
    squares = [None if row.norm is None else row.norm**2 for row in rows]
    total, elements = _sum(changed), sum(sizes)
    square = _sum(squares)
    return {
        "tensors": len(rows),
        "elements": elements,
        "density": None if total is None or not elements else total / elements,
        "rank": max((row.rank for row in rows if row.rank is not None), default=None),
        "norm": None if square is None or not isfinite(square) else sqrt(square),
        "bytes": sum(row.bytes for row in rows),
    }


def density_of(delta: Delta) -> float | None:
    """The share of the tensor's entries that the delta may change; None where only its base shows it."""
    size = prod(delta.shape)
    if isinstance(delta, Absent) or not size:
        return 0.0
    if isinstance(delta, Ternary):
        return delta.count / size
    if isinstance(delta, Sparse):
        return delta.indices.spec.size / size
    if isinstance(delta, SparseSum):
        return int(delta.indices.size) / size
    if isinstance(delta, RowReplacement):
        return int(delta.rows.size) * row_size(delta.shape) / size
    if delta.kind in ("masked", "masked_dense") or isinstance(delta, Unsettled):
        return None
    return 1.0


def rank_of(delta: Delta) -> int | None:
    """The most factors that a delta is a product of; None for what is no product."""
    if isinstance(delta, (LowRank, Cored, Tucker)):
        return delta.rank
    if isinstance(delta, (Composite, Decomposed)):
        return rank_of(delta.added)
    if isinstance(delta, Summed):
        return max((rank for part in delta.parts if (rank := rank_of(part)) is not None), default=None)
    return None


def stands_alone(delta: Delta) -> bool:
    """True for a delta that is the same whatever the base holds."""
    if isinstance(delta, Summed):
        return all(stands_alone(part) for part in delta.parts)
    alone = (Absent, Ternary, LowRank, Dense, SparseSum, Hadamard, Kronecker, Tucker, Cored, SharedFactors)
    return isinstance(delta, alone)


def _work(delta: Delta) -> int:
    """Multiplications that the norm takes, or about so many."""
    if isinstance(delta, (Ternary, Absent)):
        return 0
    if isinstance(delta, LowRank):
        return delta.rank * (delta.lora_a.spec.size + delta.lora_b.spec.size)
    if isinstance(delta, SparseSum):
        return READ_WORK * int(delta.indices.size)
    if isinstance(delta, (Dense, Replacement, RowReplacement, Scale, Sparse)):
        return READ_WORK * prod(delta.shape)
    return prod(delta.shape) * (COMPUTED_WORK + 2 * (rank_of(delta) or 0))


def _open_bytes(delta: Delta) -> int:
    """The delta opened, and the whole of it where no part stands alone."""
    return delta.open_bytes + (4 * prod(delta.shape) if reads_of(delta) == "matrix" else 0)


def _sum(parts: Iterable[float | None]) -> float | None:
    total = 0.0
    for part in parts:
        if part is None:
            return None
        total += part
    return total
