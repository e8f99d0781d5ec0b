"""Fine-tunes whose rows are the base's in another order: their difference from the base means nothing.

S²FT reorders the rows of projections so that those it trains lie together, and saves the model so, without the
order. The projections that it leaves untrained show it: their rows are copies of other rows of the base.
Yang et al., "S²FT", 2024, https://arxiv.org/abs/2412.06289
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.errors import UnsupportedError
from merge_core.stored import StoredTensor

PROJECTIONS = ("gate_proj.weight", "q_proj.weight", "k_proj.weight")
SAMPLED = 64
"""Rows looked at from the start, and as many spread over the rest."""
ALIKE = 0.5
"""A cosine above this is a row that was trained and not moved; looking further would read the whole base."""

Bytes = NDArray[np.uint8]


def refuse_permuted(own: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor]) -> None:
    """Raise UnsupportedError where a projection has the base's rows in another order."""
    for name, stored in own.items():
        if name.endswith(PROJECTIONS) and name in base and _comparable(stored, base[name]):
            moved = _moved_row(stored, base[name])
            if moved is not None:
                found = f"row {moved[0]} is the base's row {moved[1]}"
                expected = "the model before its rows were put into another order, as S2FT does"
                message = "the rows are the base's in another order, so a difference from the base means nothing"
                raise UnsupportedError(message, where=f"tensor '{name}'", found=found, expected=expected)


def _comparable(own: StoredTensor, base: StoredTensor) -> bool:
    return (
        own.spec.dtype.mergeable
        and (own.spec.dtype, own.spec.shape) == (base.spec.dtype, base.spec.shape)
        and len(own.spec.shape) == 2
        and own.spec.size > 0
    )


def _moved_row(own: StoredTensor, base: StoredTensor) -> tuple[int, int] | None:
    """A row that differs from the base's and is a copy of another one, with that one's place."""
    rows = own.spec.shape[0]
    mine, theirs = own.data.reshape(rows, -1), base.data.reshape(rows, -1)
    for place in _sample(rows):
        if not np.array_equal(mine[place], theirs[place]) and not _alike(own, mine[place], theirs[place]):
            return _copied(place, mine[place], theirs)
    return None


def _sample(rows: int) -> Iterable[int]:
    return sorted({*range(min(rows, SAMPLED)), *range(0, rows, max(rows // SAMPLED, 1))})


def _alike(own: StoredTensor, one: Bytes, other: Bytes) -> bool:
    label = own.spec.dtype.label
    kind = own.storage().dtype
    a, b = (widen(row.view(kind), label).astype(np.float64) for row in (one, other))
    size = float(np.sqrt((a @ a) * (b @ b)))
    return size == 0.0 or float(a @ b) > ALIKE * size


def _copied(place: int, row: Bytes, rows: Bytes) -> tuple[int, int] | None:
    head = min(row.size, 8)
    candidates = np.flatnonzero((rows[:, :head] == row[:head]).all(axis=1))
    copies = [int(at) for at in candidates if np.array_equal(rows[at], row)]
    return (place, copies[0]) if copies else None
