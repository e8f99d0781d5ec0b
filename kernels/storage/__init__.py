"""Stored elements to float32 and back: one pass each, rounded once.

A stored tensor is a 1-D array of its storage type: uint16 for bfloat16 and float16, else the float itself.
It may be read-only (a memory map) and need not be aligned. float64 is rounded to float32 on the way in:
all arithmetic here is float32.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import FLOAT32, FLOAT64, Floats, check_array, check_choice, output
from kernels.dispatch import operation
from kernels.storage import cpu

STORAGE: dict[str, np.dtype[Any]] = {
    "bfloat16": np.dtype(np.uint16),
    "float16": np.dtype(np.uint16),
    "float32": FLOAT32,
    "float64": FLOAT64,
}


def storage_dtype(label: str) -> np.dtype[Any]:
    """The numpy type that holds the stored elements of a torch dtype named `label`."""
    check_choice("label", label, STORAGE)
    return STORAGE[label]


@operation
def widen(raw: NDArray[Any], label: str, out: Floats | None = None) -> Floats:
    """Stored elements as float32."""
    check_array("raw", raw, storage_dtype(label), (None,))
    out = output("out", out, FLOAT32, raw.shape)
    cpu.WIDEN[label](raw, out)
    return out


@operation
def widen_difference(raw: NDArray[Any], label: str, base: Floats, out: Floats | None = None) -> Floats:
    """widen(raw) − base, without the widened copy."""
    check_array("raw", raw, storage_dtype(label), (None,))
    check_array("base", base, FLOAT32, raw.shape)
    out = output("out", out, FLOAT32, raw.shape)
    cpu.DIFFERENCE[label](raw, base, out)
    return out


@operation
def narrow(values: Floats, label: str, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """float32 as stored elements, rounded to nearest even; above the largest float16 it is inf, and NaN stays NaN."""
    check_array("values", values, FLOAT32, (None,))
    out = output("out", out, storage_dtype(label), values.shape)
    cpu.NARROW[label](values, out)
    return out


@operation
def add_scaled_narrow(
    base: Floats, delta: Floats, scale: float, label: str, out: NDArray[Any] | None = None
) -> NDArray[Any]:
    """narrow(base + scale·delta): `scale` is taken as float32, product and sum are each rounded to float32."""
    check_array("base", base, FLOAT32, (None,))
    check_array("delta", delta, FLOAT32, base.shape)
    out = output("out", out, storage_dtype(label), base.shape)
    cpu.ADD_NARROW[label](base, delta, np.float32(scale), out)
    return out
