"""DARE and what follows it in numba: rows are read, thinned out and merged while they are in the cache."""

from typing import Any

import numpy as np

from kernels.all_finite.cpu import row_is_finite
from kernels.checks import Floats, Integers
from kernels.compiled import compiled
from kernels.philox import cpu as philox
from kernels.random_drop.cpu import keep_below
from kernels.stored_rows import STRETCH, load_stretches
from kernels.trim_elect.combine import combine, room_of


@compiled
def drop_merge(
    source: Integers,
    streams: Any,
    start: int,
    limit: Any,
    divisor: Any,
    weights: Floats,
    choices: Any,
    out: Floats,
) -> bool:
    """False where a row is not finite."""
    models, scratch = weights.size, np.empty(STRETCH, np.float32)
    rows, own = room_of(models, STRETCH)
    for lo in range(0, out.size, STRETCH):
        width = min(STRETCH, out.size - lo)
        draws = scratch[:width]
        load_stretches(source, lo, width, rows[: models + 1])
        for model in range(models):
            row = rows[model, :width]
            if not row_is_finite(row):
                return False
            philox.uniform(streams[model], start + lo, draws)
            keep_below(draws, limit, divisor, row)
        combine(rows, weights, choices, own, out[lo : lo + width])
    return True
