"""Stitching in numba: a stretch of all tasks at a time; ties split a row into two runs with a limit each."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.kth_magnitude.cpu import magnitude_bits

STRETCH = 2048
ZERO, ONE = np.float32(0), np.float32(1)


@inlined
def _add_owned(row: Any, weight: Any, limit: Any, out: Any, owners: Any) -> None:
    for i in range(out.size):
        is_owned = magnitude_bits(row[i]) >= limit
        out[i] = out[i] + (weight * row[i] if is_owned else ZERO)
        owners[i] = owners[i] + (ONE if is_owned else ZERO)


@uncounted
def _add_task(row: Floats, weight: Any, magnitude: Any, ties: int, out: Floats, owners: Floats) -> None:
    bits = magnitude_bits(magnitude)
    first = min(max(ties, 0), row.size)
    _add_owned(row[:first], weight, bits, out[:first], owners[:first])
    _add_owned(row[first:], weight, np.uint32(bits + np.uint32(1)), out[first:], owners[first:])


@uncounted
def _divide(out: Floats, owners: Floats) -> None:
    for i in range(out.size):
        out[i] = out[i] / owners[i] if owners[i] > ZERO else ZERO


@compiled
def stitch(rows: Floats, weights: Floats, magnitudes: Floats, ties: Integers, out: Floats) -> None:
    scratch = np.empty(STRETCH, np.float32)
    for lo in range(0, out.size, STRETCH):
        part = out[lo : lo + STRETCH]
        owners = scratch[: part.size]
        part[:] = ZERO
        owners[:] = ZERO
        for task in range(weights.size):
            row = rows[task, lo : lo + part.size]
            _add_task(row, weights[task], magnitudes[task], ties[task] - lo, part, owners)
        _divide(part, owners)
