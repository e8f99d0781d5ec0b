"""Fine-tunes whose rows are the base's in another order: their difference from the base means nothing.

S²FT reorders the rows of projections so that those it trains lie together, and saves the model so, without the
order. The projections that it leaves untrained show it: their rows are copies of other rows of the base.
Yang et al., "S²FT", 2024, https://arxiv.org/abs/2412.06289
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.errors import UnsupportedError
from merge_core.stored import StoredTensor

PROJECTIONS = ("gate_proj.weight", "q_proj.weight", "k_proj.weight")
MOST_TENSORS = 16
"""Projections looked at, spread over the layers: all of them are put into another order, or none is."""
SAMPLED = 64
"""Rows looked at from the start, and as many spread over the rest."""
COMPARED = 256
"""Elements of a row that are compared with the base's: rows that have nothing to do with each other differ in those."""
ALIKE = 0.5
"""A cosine above this is a row that was trained and not moved; looking further would read the whole base."""

Bytes = NDArray[np.uint8]
Places = NDArray[np.int64]


def refuse_permuted(own: Mapping[str, StoredTensor], base: Mapping[str, StoredTensor]) -> None:
    """Raise UnsupportedError where a projection has the base's rows in another order."""
    names = [name for name in own if name.endswith(PROJECTIONS) and name in base and _comparable(own[name], base[name])]
    for name in names[:: -(-len(names) // MOST_TENSORS) or 1]:
        moved = _moved_row(own[name], base[name])
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
    places, width = _sample(rows), COMPARED * own.spec.dtype.itemsize
    one, other = mine[places, :width], theirs[places, :width]
    odd = places[(one != other).any(axis=1) & ~_alike(own, one, other)]
    return _copied(int(odd[0]), mine[odd[0]], theirs) if odd.size else None


def _sample(rows: int) -> Places:
    return np.unique([*range(min(rows, SAMPLED)), *range(0, rows, max(rows // SAMPLED, 1))])


def _alike(own: StoredTensor, one: Bytes, other: Bytes) -> NDArray[np.bool_]:
    """Which rows point the same way; in float32, as what overflows is looked at more closely afterwards."""
    label, kind = own.spec.dtype.label, own.storage().dtype
    a, b = (widen(rows.reshape(-1).view(kind), label).reshape(len(one), -1) for rows in (one, other))
    with np.errstate(over="ignore", invalid="ignore"):
        products, own_squares, base_squares = (np.einsum("ij,ij->i", x, y) for x, y in ((a, b), (a, a), (b, b)))
        sizes = np.sqrt(own_squares) * np.sqrt(base_squares)
        alike: NDArray[np.bool_] = (sizes == 0.0) | (products > ALIKE * sizes)
    return alike


def _copied(place: int, row: Bytes, rows: Bytes) -> tuple[int, int] | None:
    head = min(row.size, 8)
    candidates = np.flatnonzero((rows[:, :head] == row[:head]).all(axis=1))
    copies = [int(at) for at in candidates if np.array_equal(rows[at], row)]
    return (place, copies[0]) if copies else None
