"""Byte planes in numba: one loop for each width, as LLVM vectorises only what has one type.

Every step is cast back to `U`, an unsigned type at least as wide as the element: numba widens sums and differences to
uint64, at half the speed. `top` is the element's sign bit, `mask` all its bits, `shift` the sign's position.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import inlined, uncounted

U4, U8 = np.uint32, np.uint64
TOP_2, MASK_2, SHIFT_2 = U4(0x8000), U4(0xFFFF), U4(15)
TOP_4, MASK_4, SHIFT_4 = U4(0x80000000), U4(0xFFFFFFFF), U4(31)
TOP_8, MASK_8, SHIFT_8 = U8(1 << 63), U8((1 << 64) - 1), U8(63)


@inlined
def _spread(bit: Any, U: Any) -> Any:
    """All ones for 1, all zeros for 0."""
    return U(U(0) - bit)


@inlined
def _ordered(bits: Any, top: Any, mask: Any, shift: Any, U: Any) -> Any:
    """The bits of a float as a number that grows with the float: positive ones above, negative ones turned round."""
    return U((bits ^ U(_spread(U(bits >> shift), U) | top)) & mask)


@inlined
def _bits(number: Any, top: Any, mask: Any, shift: Any, U: Any) -> Any:
    was_negative = U(U(number >> shift) ^ U(1))
    return U((number ^ U(_spread(was_negative, U) | top)) & mask)


@inlined
def _code(value: Any, base: Any, top: Any, mask: Any, shift: Any, U: Any) -> Any:
    ahead, behind = _ordered(U(value), top, mask, shift, U), _ordered(U(base), top, mask, shift, U)
    distance = U(U(ahead - behind) & mask)
    return U(U(U(distance << U(1)) ^ _spread(U(distance >> shift), U)) & mask)


@inlined
def _value(code: Any, base: Any, top: Any, mask: Any, shift: Any, U: Any) -> Any:
    distance = U(U(code >> U(1)) ^ _spread(U(code & U(1)), U))
    number = U(U(_ordered(U(base), top, mask, shift, U) + distance) & mask)
    return _bits(number, top, mask, shift, U)


@uncounted
def _split_2(values: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(values.size):
        out[0, i] = values[i]
        out[1, i] = U4(values[i]) >> U4(8)


@uncounted
def _join_2(planes: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = U4(planes[0, i]) | U4(U4(planes[1, i]) << U4(8))


@uncounted
def _split_from_2(values: NDArray[Any], base: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(values.size):
        code = _code(values[i], base[i], TOP_2, MASK_2, SHIFT_2, U4)
        out[0, i] = code
        out[1, i] = code >> U4(8)


@uncounted
def _join_from_2(planes: NDArray[Any], base: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(out.size):
        code = U4(U4(planes[0, i]) | U4(U4(planes[1, i]) << U4(8)))
        out[i] = _value(code, base[i], TOP_2, MASK_2, SHIFT_2, U4)


@inlined
def _scatter_4(code: Any, out: Any, i: Any) -> None:
    out[0, i] = code
    out[1, i] = code >> U4(8)
    out[2, i] = code >> U4(16)
    out[3, i] = code >> U4(24)


@inlined
def _gather_4(planes: Any, i: Any) -> Any:
    low = U4(U4(planes[0, i]) | U4(U4(planes[1, i]) << U4(8)))
    return U4(low | U4(U4(U4(planes[2, i]) << U4(16)) | U4(U4(planes[3, i]) << U4(24))))


@uncounted
def _split_4(values: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(values.size):
        _scatter_4(U4(values[i]), out, i)


@uncounted
def _join_4(planes: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = _gather_4(planes, i)


@uncounted
def _split_from_4(values: NDArray[Any], base: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(values.size):
        _scatter_4(_code(values[i], base[i], TOP_4, MASK_4, SHIFT_4, U4), out, i)


@uncounted
def _join_from_4(planes: NDArray[Any], base: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = _value(_gather_4(planes, i), base[i], TOP_4, MASK_4, SHIFT_4, U4)


@inlined
def _scatter_8(code: Any, out: Any, i: Any) -> None:
    for plane in range(8):
        out[plane, i] = code >> U8(8 * plane)


@inlined
def _gather_8(planes: Any, i: Any) -> Any:
    code = U8(0)
    for plane in range(8):
        code = U8(code | U8(U8(planes[plane, i]) << U8(8 * plane)))
    return code


@uncounted
def _split_8(values: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(values.size):
        _scatter_8(U8(values[i]), out, i)


@uncounted
def _join_8(planes: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = _gather_8(planes, i)


@uncounted
def _split_from_8(values: NDArray[Any], base: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(values.size):
        _scatter_8(_code(values[i], base[i], TOP_8, MASK_8, SHIFT_8, U8), out, i)


@uncounted
def _join_from_8(planes: NDArray[Any], base: NDArray[Any], out: NDArray[Any]) -> None:
    for i in range(out.size):
        out[i] = _value(_gather_8(planes, i), base[i], TOP_8, MASK_8, SHIFT_8, U8)


SPLIT = {2: _split_2, 4: _split_4, 8: _split_8}
SPLIT_FROM = {2: _split_from_2, 4: _split_from_4, 8: _split_from_8}
JOIN = {2: _join_2, 4: _join_4, 8: _join_8}
JOIN_FROM = {2: _join_from_2, 4: _join_from_4, 8: _join_from_8}
