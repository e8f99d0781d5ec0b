"""Stored elements as byte planes and back, exactly: what a general compressor can make the most of.

Plane p holds byte p of every element, the lowest first. With a base, the element is the distance from the base's
element in the order of floats (how many representable numbers lie between), zigzag-coded so that small distances of
either sign have zeros in their upper planes. Every bit pattern comes back, NaN payloads and negative zeros included.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.byte_planes import cpu
from kernels.checks import check_array, output
from kernels.dispatch import operation

Planes = NDArray[np.uint8]

WIDTHS = (2, 4, 8)
"""Bytes of an element that has planes."""


@operation
def split_planes(values: NDArray[Any], base: NDArray[Any] | None = None, out: Planes | None = None) -> Planes:
    """uint8 [width, elements] from uint16, uint32 or uint64 [elements]; `base` has the same type and length."""
    check_array("values", values, _unsigned(values), (None,))
    out = output("out", out, np.dtype(np.uint8), (values.itemsize, values.size))
    if base is None:
        cpu.SPLIT[values.itemsize](values, out)
        return out
    check_array("base", base, values.dtype, values.shape)
    cpu.SPLIT_FROM[values.itemsize](values, base, out)
    return out


@operation
def join_planes(planes: Planes, out: NDArray[Any], base: NDArray[Any] | None = None) -> NDArray[Any]:
    """The elements again, into `out`, whose type says how many planes there are."""
    check_array("planes", planes, np.dtype(np.uint8), (out.itemsize, out.size))
    output("out", out, _unsigned(out), (out.size,))
    if base is None:
        cpu.JOIN[out.itemsize](planes, out)
        return out
    check_array("base", base, out.dtype, out.shape)
    cpu.JOIN_FROM[out.itemsize](planes, base, out)
    return out


def _unsigned(array: NDArray[Any]) -> np.dtype[Any]:
    if array.itemsize not in WIDTHS:
        raise ValueError(f"found elements of {array.itemsize} bytes, expected 2, 4 or 8")
    return np.dtype(f"u{array.itemsize}")
