"""Widening and narrowing in numba. One loop per storage type: the branch must stay outside, or nothing vectorises."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.bits import bits_of_float, float_of_bits, float_of_half, half_of_float
from kernels.checks import Floats
from kernels.compiled import inlined, uncounted


@inlined
def from_bfloat16(raw: Any) -> Any:
    return float_of_bits(np.uint32(raw) << np.uint32(16))


@inlined
def to_bfloat16(value: Any) -> Any:
    """Round to nearest even; a NaN keeps its sign and payload and is made quiet, as rounding up could make it inf.

    Every step is cast back to uint32: numba widens integer sums to uint64, at half the speed.
    """
    bits = bits_of_float(value)
    odd = np.uint32((bits >> np.uint32(16)) & np.uint32(1))
    rounded = np.uint32(np.uint32(bits + np.uint32(0x7FFF)) + odd)
    quiet = np.uint32(bits | np.uint32(0x400000))
    return np.uint16(np.uint32(rounded if value == value else quiet) >> np.uint32(16))


@uncounted
def widen_bfloat16(raw: NDArray[Any], out: Floats) -> None:
    for i in range(out.size):
        out[i] = from_bfloat16(raw[i])


@uncounted
def widen_float16(raw: NDArray[Any], out: Floats) -> None:
    for i in range(out.size):
        out[i] = float_of_half(raw[i])


@uncounted
def widen_float(raw: NDArray[Any], out: Floats) -> None:
    for i in range(out.size):
        out[i] = np.float32(raw[i])


@uncounted
def difference_bfloat16(raw: NDArray[Any], base: Floats, out: Floats) -> None:
    for i in range(out.size):
        out[i] = from_bfloat16(raw[i]) - base[i]


@uncounted
def difference_float16(raw: NDArray[Any], base: Floats, out: Floats) -> None:
    for i in range(out.size):
        out[i] = float_of_half(raw[i]) - base[i]


@uncounted
def difference_float(raw: NDArray[Any], base: Floats, out: Floats) -> None:
    for i in range(out.size):
        out[i] = np.float32(raw[i]) - base[i]


@uncounted
def narrow_bfloat16(values: Floats, out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = to_bfloat16(values[i])


@uncounted
def narrow_float16(values: Floats, out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = half_of_float(values[i])


@uncounted
def narrow_float(values: Floats, out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = values[i]


@uncounted
def add_narrow_bfloat16(base: Floats, delta: Floats, scale: Any, out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = to_bfloat16(base[i] + scale * delta[i])


@uncounted
def add_narrow_float16(base: Floats, delta: Floats, scale: Any, out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = half_of_float(base[i] + scale * delta[i])


@uncounted
def add_narrow_float(base: Floats, delta: Floats, scale: Any, out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = base[i] + scale * delta[i]


WIDEN = {
    "bfloat16": widen_bfloat16,
    "float16": widen_float16,
    "float32": widen_float,
    "float64": widen_float,
}
DIFFERENCE = {
    "bfloat16": difference_bfloat16,
    "float16": difference_float16,
    "float32": difference_float,
    "float64": difference_float,
}
NARROW = {
    "bfloat16": narrow_bfloat16,
    "float16": narrow_float16,
    "float32": narrow_float,
    "float64": narrow_float,
}
ADD_NARROW = {
    "bfloat16": add_narrow_bfloat16,
    "float16": add_narrow_float16,
    "float32": add_narrow_float,
    "float64": add_narrow_float,
}
