"""Counting magnitudes in numba.

The order of float32 magnitudes is the order of their low 31 bits, so the search is for an integer. A plain
histogram needs 0.25 ns per element; several sub-histograms gained nothing here, even on all-equal data.
"""

from typing import Any

import numpy as np

from kernels.bits import bits_of_float
from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined

STRETCH = 64


@inlined
def magnitude_bits(value: Any) -> Any:
    return np.uint32(bits_of_float(value) & np.uint32(0x7FFFFFFF))


@compiled
def count_top(rows: Floats, out: Integers) -> None:
    for model in range(rows.shape[0]):
        row, counts = rows[model], out[model]
        for i in range(row.size):
            counts[magnitude_bits(row[i]) >> np.uint32(15)] += 1


@inlined
def _count_one(value: Any, prefix: Any, counts: Any) -> None:
    bits = magnitude_bits(value)
    if bits >> np.uint32(15) == prefix:
        counts[bits & np.uint32(0x7FFF)] += 1


@compiled
def _count_low_of(row: Floats, prefix: Any, counts: Integers) -> None:
    """Asks 64 elements at once, without a branch, whether any matches: 10 times faster than asking each.

    A function of its own: with the loop over models around it LLVM unrolls the question and loses the gain.
    """
    whole = row.size // STRETCH * STRETCH
    for lo in range(0, whole, STRETCH):
        found = np.uint32(0)
        for i in range(STRETCH):
            found |= np.uint32((magnitude_bits(row[lo + i]) >> np.uint32(15)) == prefix)
        if found:
            for i in range(lo, lo + STRETCH):
                _count_one(row[i], prefix, counts)
    for i in range(whole, row.size):
        _count_one(row[i], prefix, counts)


@compiled
def count_low(rows: Floats, prefixes: Integers, out: Integers) -> None:
    for model in range(rows.shape[0]):
        _count_low_of(rows[model], np.uint32(prefixes[model]), out[model])


@compiled
def count_ties(rows: Floats, magnitudes: Floats, block: int, out: Integers) -> None:
    for model in range(rows.shape[0]):
        bits = magnitude_bits(magnitudes[model])
        for b in range(out.shape[0]):
            tile = rows[model, b * block : (b + 1) * block]
            count = 0
            for i in range(tile.size):
                count += magnitude_bits(tile[i]) == bits
            out[b, model] = count


@compiled
def tie_position(values: Floats, magnitude: Any, rank: Any) -> Any:
    """The index of the `rank`-th value whose magnitude this is; the length where there are fewer."""
    bits = magnitude_bits(magnitude)
    seen = 0
    for i in range(values.size):
        seen += magnitude_bits(values[i]) == bits
        if seen == rank:
            return i
    return values.size
