"""MagPrune and what follows it in numba: rows are read, ranked, thinned out and merged while they are in the cache."""

from typing import Any

import numpy as np

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, uncounted
from kernels.philox import cpu as philox
from kernels.rank_drop.counting import INFINITY, largest, rank, rooms_of
from kernels.rank_drop.cpu import keep_below
from kernels.stored_rows import load_stretches
from kernels.trim_elect.combine import combine, room_of

MERGED, FOR_A_SORT, NOT_FINITE = range(3)


@uncounted
def _thin(row: Floats, table: Floats, stream: Any, start: int, rescale: bool, rooms: Any, scratch: Floats) -> int:
    """`row` in place; MERGED, or why not."""
    top, chances, draws = largest(row), scratch[0], scratch[1]
    if top >= INFINITY:
        return NOT_FINITE
    if not rank(row, top, table, rooms, chances):
        return FOR_A_SORT
    philox.uniform(stream, start, draws)
    keep_below(draws, chances, rescale, row)
    return MERGED


@uncounted
def _rank_and_merge(
    source: Integers, table: Floats, drawing: Any, weights: Floats, choices: Any, all_rooms: Any, out: Floats
) -> Any:
    width, models, (rooms, scratch, (rows, own)) = table.size, weights.size, all_rooms
    streams, start, rescale = drawing
    for lo in range(0, out.size, width):
        load_stretches(source, lo, width, rows[: models + 1])
        for model in range(models):
            end = _thin(rows[model], table, streams[model], start + lo, rescale, rooms, scratch)
            if end != MERGED:
                return lo, end
        combine(rows, weights, choices, own, out[lo : lo + width])
    return out.size, MERGED


@compiled
def rank_merge(source: Integers, table: Floats, drawing: Any, weights: Floats, choices: Any, out: Floats) -> Any:
    """How many elements are merged, and why not more; `drawing` is the streams, the flat index of the first element
    and whether what stays is rescaled."""
    width = table.size
    rooms = rooms_of(width), np.empty((2, width), np.float32), room_of(weights.size, width)
    return _rank_and_merge(source, table, drawing, weights, choices, rooms, out)
