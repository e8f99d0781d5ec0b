"""Stored elements inside compiled kernels, by address and dtype: the choice of dtype falls once, outside the loop."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.addresses import doubles, halves, singles
from kernels.bits import float_of_half, half_of_float
from kernels.compiled import inlined
from kernels.storage.cpu import from_bfloat16, to_bfloat16

BFLOAT16, FLOAT16, FLOAT32, FLOAT64 = 1, 2, 3, 4
KINDS = {"bfloat16": BFLOAT16, "float16": FLOAT16, "float32": FLOAT32, "float64": FLOAT64}
"""The number that stands for a dtype inside kernels."""

Stored = tuple[NDArray[Any], str]
"""A 1-D array of a storage type, and the label of its dtype: see `kernels.storage`."""


def part(stored: Stored, start: int, size: int) -> Stored:
    """Elements [start, start + size)."""
    raw, label = stored
    return raw[start : start + size], label


def place_of(raw: NDArray[Any], label: str) -> tuple[int, int]:
    """Where the elements lie, and the kind that they are of."""
    return raw.ctypes.data, KINDS[label]


@inlined
def load(address: Any, kind: Any, start: Any, out: Any) -> None:
    """Stored elements from `start` on as float32."""
    if kind == BFLOAT16:
        bfloats = halves(address, start, out.size)
        for i in range(out.size):
            out[i] = from_bfloat16(bfloats[i])
    elif kind == FLOAT16:
        floats16 = halves(address, start, out.size)
        for i in range(out.size):
            out[i] = float_of_half(floats16[i])
    elif kind == FLOAT32:
        floats = singles(address, start, out.size)
        for i in range(out.size):
            out[i] = floats[i]
    else:
        floats64 = doubles(address, start, out.size)
        for i in range(out.size):
            out[i] = np.float32(floats64[i])


@inlined
def save(values: Any, address: Any, kind: Any, start: Any) -> None:
    """float32 as stored elements from `start` on, rounded once."""
    if kind == BFLOAT16:
        bfloats = halves(address, start, values.size)
        for i in range(values.size):
            bfloats[i] = to_bfloat16(values[i])
    elif kind == FLOAT16:
        floats16 = halves(address, start, values.size)
        for i in range(values.size):
            floats16[i] = half_of_float(values[i])
    elif kind == FLOAT32:
        floats = singles(address, start, values.size)
        for i in range(values.size):
            floats[i] = values[i]
    else:
        floats64 = doubles(address, start, values.size)
        for i in range(values.size):
            floats64[i] = values[i]
