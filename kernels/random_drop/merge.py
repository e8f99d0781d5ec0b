"""DARE and what follows it in numba: rows are read, thinned out and merged while they are in the cache."""

from typing import Any

from kernels.checks import Floats, Integers
from kernels.compiled import compiled
from kernels.random_drop.cpu import thin
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
    models = weights.size
    rows, own = room_of(models, STRETCH)
    for lo in range(0, out.size, STRETCH):
        width = min(STRETCH, out.size - lo)
        load_stretches(source, lo, width, rows[: models + 1])
        for model in range(models):
            if not thin(streams[model], start + lo, limit, divisor, rows[model, :width]):
                return False
        combine(rows, weights, choices, own, out[lo : lo + width])
    return True
