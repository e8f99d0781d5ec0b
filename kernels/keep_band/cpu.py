"""The band in numba: where ties are cut off, a row splits into runs that compare with whole numbers alone."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import uncounted
from kernels.kth_magnitude.cpu import magnitude_bits


@uncounted
def _between(values: Floats, lowest: Any, limit: Any) -> None:
    """Keep magnitudes whose bits are at least `lowest` and below `limit`.

    In place: were input and output two arrays in the same memory, LLVM would not vectorise the loop.
    """
    for i in range(values.size):
        x = values[i]
        bits = magnitude_bits(x)
        values[i] = x if (bits >= lowest) & (bits < limit) else np.float32(0)


@uncounted
def _band(row: Floats, lower: Any, lower_ties: int, upper: Any, upper_ties: int) -> None:
    """The ties of a threshold reach it in the row's first so many elements, and fall short of it in the others."""
    first, second = min(lower_ties, upper_ties), max(lower_ties, upper_ties)
    for lo, hi in ((0, first), (first, second), (second, row.size)):
        lowest = np.uint32(lower + np.uint32(lo >= lower_ties))
        limit = np.uint32(upper + np.uint32(lo >= upper_ties))
        _between(row[lo:hi], lowest, limit)


@uncounted
def keep_band(rows: Floats, lowers: Floats, lower_ties: Integers, uppers: Floats, upper_ties: Integers) -> None:
    """`rows` in place."""
    for i in range(rows.shape[0]):
        lower, upper = magnitude_bits(lowers[i]), magnitude_bits(uppers[i])
        _band(rows[i], lower, lower_ties[i], upper, upper_ties[i])
