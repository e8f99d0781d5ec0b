"""The sum of stored elements in numba: stretch by stretch, with what lies in between in the L1 cache.

One kernel takes every mix of dtypes: the choice between them falls once for each stretch, outside the loops.
bfloat16, which nearly all checkpoints are, is widened inside the sum; the others are widened first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.addresses import doubles, halves, singles
from kernels.bits import float_of_half, half_of_float
from kernels.checks import Floats
from kernels.compiled import compiled, inlined
from kernels.storage.cpu import from_bfloat16, to_bfloat16

STRETCH = 2048

KINDS = {"bfloat16": 0, "float16": 1, "float32": 2, "float64": 3}


@inlined
def load(address: Any, kind: Any, start: Any, out: Any) -> None:
    """Stored elements from `start` on as float32."""
    if kind == 0:
        bfloats = halves(address, start, out.size)
        for i in range(out.size):
            out[i] = from_bfloat16(bfloats[i])
    elif kind == 1:
        floats16 = halves(address, start, out.size)
        for i in range(out.size):
            out[i] = float_of_half(floats16[i])
    elif kind == 2:
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
    if kind == 0:
        bfloats = halves(address, start, values.size)
        for i in range(values.size):
            bfloats[i] = to_bfloat16(values[i])
    elif kind == 1:
        floats16 = halves(address, start, values.size)
        for i in range(values.size):
            floats16[i] = half_of_float(values[i])
    elif kind == 2:
        floats = singles(address, start, values.size)
        for i in range(values.size):
            floats[i] = values[i]
    else:
        floats64 = doubles(address, start, values.size)
        for i in range(values.size):
            floats64[i] = values[i]


@inlined
def _add(weight: Any, address: Any, kind: Any, start: Any, is_first: Any, spare: Any, total: Any) -> None:
    if kind == 0:
        raw = halves(address, start, total.size)
        if is_first:
            for i in range(total.size):
                total[i] = weight * from_bfloat16(raw[i])
        else:
            for i in range(total.size):
                total[i] = total[i] + weight * from_bfloat16(raw[i])
        return
    load(address, kind, start, spare)
    if is_first:
        for i in range(total.size):
            total[i] = weight * spare[i]
    else:
        for i in range(total.size):
            total[i] = total[i] + weight * spare[i]


@inlined
def _add_difference(
    weight: Any, address: Any, kind: Any, start: Any, base: Any, is_first: Any, spare: Any, total: Any
) -> None:
    if kind == 0:
        raw = halves(address, start, total.size)
        if is_first:
            for i in range(total.size):
                total[i] = weight * (from_bfloat16(raw[i]) - base[i])
        else:
            for i in range(total.size):
                total[i] = total[i] + weight * (from_bfloat16(raw[i]) - base[i])
        return
    load(address, kind, start, spare)
    if is_first:
        for i in range(total.size):
            total[i] = weight * (spare[i] - base[i])
    else:
        for i in range(total.size):
            total[i] = total[i] + weight * (spare[i] - base[i])


@compiled
def stored_sum(
    addresses: NDArray[np.uint64], kinds: NDArray[np.uint64], weights: Floats, out: Any, out_kind: Any, size: Any
) -> None:
    """Inputs and output are addresses, each with the number of its dtype in `KINDS`; `size` elements each."""
    room = np.empty((2, STRETCH), np.float32)
    for start in range(0, size, STRETCH):
        length = min(STRETCH, size - start)
        total, spare = room[0, :length], room[1, :length]
        for k in range(weights.size):
            _add(weights[k], addresses[k], kinds[k], start, k == 0, spare, total)
        save(total, out, out_kind, start)


@compiled
def stored_delta_sum(
    base: Any,
    base_kind: Any,
    addresses: NDArray[np.uint64],
    kinds: NDArray[np.uint64],
    weights: Floats,
    scale: Any,
    out: Any,
    out_kind: Any,
    size: Any,
) -> None:
    """The sum of differences from the base at address `base`, times `scale`, on that base."""
    room = np.empty((3, STRETCH), np.float32)
    for start in range(0, size, STRETCH):
        length = min(STRETCH, size - start)
        total, spare, widened = room[0, :length], room[1, :length], room[2, :length]
        load(base, base_kind, start, widened)
        for k in range(weights.size):
            _add_difference(weights[k], addresses[k], kinds[k], start, widened, k == 0, spare, total)
        for i in range(length):
            total[i] = widened[i] + scale * total[i]
        save(total, out, out_kind, start)
