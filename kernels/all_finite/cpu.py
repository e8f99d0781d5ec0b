"""A number is finite unless every bit of its exponent is set: integer comparisons, counted without a branch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.bits import bits_of_float
from kernels.checks import Integers
from kernels.compiled import compiled, uncounted
from kernels.stored_rows import STRETCH, base_stretch, stretch


@uncounted
def _half(raw: NDArray[Any], magnitude_mask: Any, infinity: Any) -> bool:
    found = np.uint16(0)
    for i in range(raw.size):
        found |= np.uint16((raw[i] & magnitude_mask) >= infinity)
    return bool(found == 0)


@uncounted
def row_is_finite(raw: NDArray[Any]) -> bool:
    found = np.uint32(0)
    for i in range(raw.size):
        found |= np.uint32((bits_of_float(raw[i]) & np.uint32(0x7FFFFFFF)) >= np.uint32(0x7F800000))
    return bool(found == 0)


@compiled
def rows_are_finite(table: Integers, models: int, size: int) -> bool:
    room = np.empty((2, STRETCH), np.float32)
    for lo in range(0, size, STRETCH):
        base, own = room[0, : min(STRETCH, size - lo)], room[1, : min(STRETCH, size - lo)]
        base_stretch(table, lo, base)
        for model in range(models):
            if not row_is_finite(stretch(table, model, lo, base, own)):
                return False
    return True


@uncounted
def _double(raw: NDArray[Any]) -> bool:
    found = 0
    for i in range(raw.size):
        found |= not np.isfinite(raw[i])
    return bool(found == 0)


def _bfloat16(raw: NDArray[Any]) -> bool:
    return _half(raw, np.uint16(0x7FFF), np.uint16(0x7F80))


def _float16(raw: NDArray[Any]) -> bool:
    return _half(raw, np.uint16(0x7FFF), np.uint16(0x7C00))


ALL_FINITE = {"bfloat16": _bfloat16, "float16": _float16, "float32": row_is_finite, "float64": _double}
