"""Changes counted in numba: a stretch of all models at a time, so that counts stay in the L1 cache."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.stored_rows import STRETCH, load_stretches

ZERO, ONE = np.float32(0), np.float32(1)


@inlined
def _is_changed(value: Any, epsilon: Any) -> Any:
    """True for a NaN, so that it reaches the result and is found there."""
    return not (abs(value) <= epsilon)


@uncounted
def _add_owner(row: Floats, epsilon: Any, owners: Floats) -> None:
    for i in range(owners.size):
        owners[i] = owners[i] + (ONE if _is_changed(row[i], epsilon) else ZERO)


@uncounted
def _count_owners(rows: Floats, width: int, epsilon: Any, owners: Floats) -> None:
    owners[:] = ZERO
    for model in range(rows.shape[0] - 1):
        _add_owner(rows[model, :width], epsilon, owners)


@uncounted
def _add_changed(row: Floats, epsilon: Any, gain: Any, owners: Floats, out: Floats) -> None:
    for i in range(out.size):
        value = gain * row[i] if owners[i] == ONE else row[i]
        out[i] = out[i] + (value if _is_changed(row[i], epsilon) else ZERO)


@uncounted
def _divide(owners: Floats, out: Floats) -> None:
    for i in range(out.size):
        out[i] = out[i] / max(owners[i], ONE)


@compiled
def changed_mean(table: Integers, epsilon: Any, gains: Floats, out: Floats) -> None:
    rows, scratch = np.empty((gains.size + 1, STRETCH), np.float32), np.empty(STRETCH, np.float32)
    for lo in range(0, out.size, STRETCH):
        part = out[lo : lo + STRETCH]
        owners = scratch[: part.size]
        load_stretches(table, lo, part.size, rows)
        _count_owners(rows, part.size, epsilon, owners)
        part[:] = ZERO
        for model in range(gains.size):
            _add_changed(rows[model, : part.size], epsilon, gains[model], owners, part)
        _divide(owners, part)


@uncounted
def _count(row: Floats, epsilon: Any, owners: Floats, counts: Integers) -> None:
    shared, own = np.uint32(0), np.uint32(0)
    for i in range(row.size):
        is_changed = np.uint32(_is_changed(row[i], epsilon))
        own += is_changed & np.uint32(owners[i] == ONE)
        shared += is_changed & np.uint32(owners[i] > ONE)
    counts[0] += np.int64(shared)
    counts[1] += np.int64(own)


@compiled
def changed_counts(table: Integers, size: int, epsilon: Any, out: Integers) -> None:
    rows, scratch = np.empty((out.shape[0] + 1, STRETCH), np.float32), np.empty(STRETCH, np.float32)
    for lo in range(0, size, STRETCH):
        width = min(STRETCH, size - lo)
        owners = scratch[:width]
        load_stretches(table, lo, width, rows)
        _count_owners(rows, width, epsilon, owners)
        for model in range(out.shape[0]):
            _count(rows[model, :width], epsilon, owners, out[model])
