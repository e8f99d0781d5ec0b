"""Ternary tensors as two bitplanes: −, 0 or + for each element, times one value for all.

Yadav et al., "ComPEFT", 2023, https://arxiv.org/abs/2311.13171. Nothing dense is made of an expert beside a stretch
of elements in the first-level cache. The results are, bit for bit, those of `unpack` and then the dense kernels.
numpy arrays only.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kernels.checks import FLOAT32, Floats, check_array, check_choice, output
from kernels.storage import storage_dtype
from kernels.stored_elements import KINDS, Stored
from kernels.ternary import cpu
from kernels.ternary.planes import Places, Planes, plane_bytes, table_of
from kernels.trim_elect.choices import ELECTS, HOWS, Elect, How

__all__ = [
    "Places",
    "Planes",
    "Tally",
    "pack",
    "plane_bytes",
    "signed_election",
    "signed_sum",
    "tally",
    "ternarize",
    "unpack",
]

LEAST = float(np.finfo(np.float32).smallest_subnormal)


class Tally(NamedTuple):
    """How many bits the planes have; `both` counts elements that claim to be + and − at once."""

    positive: int
    negative: int
    both: int


def pack(values: Floats, magnitude: float = LEAST, out: NDArray[np.uint8] | None = None) -> Planes:
    """The signs of the elements with |x| ≥ `magnitude` > 0, which begin at bit 0; the bits of the rest are 0."""
    check_array("values", values, FLOAT32, (None,))
    if not magnitude > 0:
        raise ValueError(f"magnitude: found {magnitude}, expected more than 0")
    planes = output("out", out, np.dtype(np.uint8), (2, plane_bytes(values.size)))
    cpu.pack(values, np.float32(magnitude), planes.view(np.uint64))
    return Planes(planes[0], planes[1])


def unpack(planes: Planes, value: float, size: int, out: Floats | None = None) -> Floats:
    """+value, −value or +0.0: float32 [size]."""
    out = output("out", out, FLOAT32, (size,))
    cpu.unpack(table_of([planes], size), np.float32(value), out)
    return out


def ternarize(values: Floats, magnitude: float, ties: int, value: float, out: Floats | None = None) -> Floats:
    """±value where |x| > magnitude, or |x| == magnitude among the first `ties` elements; 0 elsewhere, and for 0."""
    check_array("values", values, FLOAT32, (None,))
    out = output("out", out, FLOAT32, values.shape)
    cpu.trim(values, np.float32(magnitude), ties, np.float32(value), out)
    return out


def tally(planes: Planes) -> Tally:
    """The bits of whole planes."""
    found = np.zeros(3, np.int64)
    cpu.count(table_of([planes], 0)[0], found)
    return Tally(*map(int, found))


def signed_sum(
    base: Stored,
    experts: Sequence[Planes] | Places,
    values: Floats,
    coefficients: Floats,
    label: str,
    scale: float | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """With a scale, narrow(base + scale · Σ c_t d_t); without one narrow(Σ c_t (d_t + base)); d_t = ±values[t] or 0.

    `base` is a raw array and the label of its dtype, as in `kernels.storage`; at least one expert. Experts in order,
    every operation rounded to float32.
    """
    table = table_of(experts, base[0].size)
    _check(base, table, values, coefficients)
    out = output("out", out, storage_dtype(label), base[0].shape)
    factor = np.float32(1.0 if scale is None else scale)
    cpu.signed_sum(
        table, values, coefficients, *_place(base), factor, scale is not None, *_place((out, label)), out.size
    )
    return out


def signed_election(
    base: Stored,
    experts: Sequence[Planes] | Places,
    values: Floats,
    weights: Floats,
    label: str,
    scale: float,
    how: How = "mean",
    elect: Elect = "weighted",
    zero_vote_sign: int = 0,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """narrow(base + scale · `kernels.trim_elect.trim_elect` of the untrimmed experts): `how` max is not for it."""
    table = table_of(experts, base[0].size)
    _check(base, table, values, weights)
    check_choice("how", how, HOWS[:3])
    check_choice("elect", elect, ELECTS)
    out = output("out", out, storage_dtype(label), base[0].shape)
    choices = HOWS.index(how), ELECTS.index(elect), np.float32(zero_vote_sign)
    cpu.signed_election(
        table, values, weights, *choices, *_place(base), np.float32(scale), *_place((out, label)), out.size
    )
    return out


def _check(base: Stored, table: NDArray[np.uint64], values: Floats, weights: Floats) -> None:
    check_array("base", base[0], storage_dtype(base[1]), (None,))
    if len(table) == 0:
        raise ValueError("experts: found none, expected at least 1")
    check_array("values", values, FLOAT32, (len(table),))
    check_array("weights", weights, FLOAT32, (len(table),))


def _place(stored: Stored) -> tuple[int, int]:
    return stored[0].ctypes.data, KINDS[stored[1]]
