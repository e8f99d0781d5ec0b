"""Dropping in numba: a stretch of draws at a time, so that they never leave the L1 cache."""

from typing import Any

import numpy as np

from kernels.checks import Floats
from kernels.compiled import compiled
from kernels.philox import cpu as philox

STRETCH = 2048


@compiled
def keep_below(draws: Floats, limit: Any, divisor: Any, values: Floats) -> None:
    """In place: were input and output two arrays in the same memory, LLVM would not vectorise the loop."""
    for i in range(values.size):
        x = values[i]
        # x − x is 0, and NaN for what is not finite.
        values[i] = x / divisor if draws[i] < limit else x - x


@compiled
def random_drop(rows: Floats, words: Any, start: int, limit: Any, divisor: Any) -> None:
    """`rows` in place."""
    scratch = np.empty(STRETCH, np.float32)
    for i in range(rows.shape[0]):
        for lo in range(0, rows.shape[1], STRETCH):
            part = rows[i, lo : lo + STRETCH]
            draws = scratch[: part.size]
            philox.uniform(words[i], start + lo, draws)
            keep_below(draws, limit, divisor, part)
