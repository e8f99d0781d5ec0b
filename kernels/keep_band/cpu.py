"""The band in numba: where ties are cut off, a row splits into runs that compare with whole numbers alone."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled
from kernels.kth_magnitude.cpu import magnitude_bits


@compiled
def _between(row: Floats, lowest: Any, limit: Any, out: Floats) -> None:
    """Keep magnitudes whose bits are at least `lowest` and below `limit`."""
    for i in range(out.size):
        x = row[i]
        bits = magnitude_bits(x)
        out[i] = x if (bits >= lowest) & (bits < limit) else np.float32(0)


@compiled
def _band(row: Floats, lower: Any, lower_ties: int, upper: Any, upper_ties: int, out: Floats) -> None:
    """The ties of a threshold reach it in the row's first so many elements, and fall short of it in the others."""
    first, second = min(lower_ties, upper_ties), max(lower_ties, upper_ties)
    for lo, hi in ((0, first), (first, second), (second, row.size)):
        lowest = np.uint32(lower + np.uint32(lo >= lower_ties))
        limit = np.uint32(upper + np.uint32(lo >= upper_ties))
        _between(row[lo:hi], lowest, limit, out[lo:hi])


@compiled
def keep_band(
    rows: Floats, lowers: Floats, lower_ties: Integers, uppers: Floats, upper_ties: Integers, out: Floats
) -> None:
    for i in range(rows.shape[0]):
        lower, upper = magnitude_bits(lowers[i]), magnitude_bits(uppers[i])
        _band(rows[i], lower, lower_ties[i], upper, upper_ties[i], out[i])
