"""DARE and what follows it in numba: rows are read, thinned out and merged while they are in the cache."""

from typing import Any

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, uncounted
from kernels.random_drop.cpu import thin
from kernels.stored_rows import STEP, load_stretches
from kernels.trim_elect.combine import combine, room_of


@uncounted
def _drop_and_merge(
    source: Integers, streams: Any, start: int, chance: Any, weights: Floats, choices: Any, rooms: Any, out: Floats
) -> bool:
    models, (rows, own), (limit, divisor) = weights.size, rooms, chance
    for lo in range(0, out.size, STEP):
        width = min(STEP, out.size - lo)
        load_stretches(source, lo, width, rows[: models + 1])
        for model in range(models):
            if not thin(streams[model], start + lo, limit, divisor, rows[model, :width]):
                return False
        combine(rows, weights, choices, own, out[lo : lo + width])
    return True


@compiled
def drop_merge(
    source: Integers, streams: Any, start: int, chance: Any, weights: Floats, choices: Any, out: Floats
) -> bool:
    """False where a row is not finite; `chance` is the draw from which on entries are dropped, and the divisor."""
    return _drop_and_merge(source, streams, start, chance, weights, choices, room_of(weights.size, STEP), out)
