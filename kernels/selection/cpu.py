"""Selecting in numba: spreads are compared by bounds of their squares, in the cache with what is done to the rows."""

from typing import Any

import numpy as np

from kernels.checks import Doubles, Floats, Integers
from kernels.compiled import compiled, pasted, uncounted
from kernels.gram.cpu import LANES, add, finished
from kernels.marked import marked
from kernels.spread.bounds import NOTHING, SURE, UNSURE, bounds, mark_above, settle_zeros, squared_spread
from kernels.stored_rows import STEP, load_stretches
from kernels.trim_elect.combine import combine, room_of

ZERO = np.float32(0)


@compiled
def _rooms() -> Any:
    """For bounds, marks and places of a stretch."""
    return np.empty((2, STEP), np.float32), np.empty(STEP, np.uint16), np.empty(STEP, np.int64)


@uncounted
def _add_tie(rows: Floats, place: Any, tied: Doubles) -> None:
    """The square of each model to its sum, and to their number last."""
    for model in range(tied.size - 1):
        x = np.float64(rows[model, place])
        tied[model] += x * x
    tied[tied.size - 1] += 1.0


@uncounted
def _settle(rows: Floats, models: int, limits: Any, ties: int, places: Any, marks: Any, tied: Doubles) -> None:
    for j in range(places.size):
        place = places[j]
        square = squared_spread(rows, models, place)
        is_beyond = square > (limits.reached if place < ties else limits.above)
        marks[place] = SURE if is_beyond else NOTHING
        if tied.size and not is_beyond and square > limits.reached:
            _add_tie(rows, place, tied)


@pasted
def _select(rows: Floats, models: int, width: int, limits: Any, ties: int, rooms: Any, tied: Doubles) -> Any:
    """Marks of what is selected of a stretch, whose first `ties` elements need but reach the magnitude.

    Where there is room in `tied`, what reaches it and is not selected is added to it.
    """
    room, all_marks, places = rooms
    marks = all_marks[:width]
    lows, highs = bounds(rows, models, width, room)
    mark_above(lows, highs, limits.narrow_reached, limits.narrow_above, marks)
    if limits.reached < 0.0:
        zeros = settle_zeros(rows, models, ties, marks)
        if tied.size:
            tied[tied.size - 1] += zeros
    found = marked(marks, UNSURE, places)
    _settle(rows, models, limits, ties, places[:found], marks, tied)
    return marks


@uncounted
def _clear(row: Floats, marks: Any) -> None:
    for i in range(row.size):
        row[i] = row[i] if marks[i] == SURE else ZERO


@uncounted
def _add_block(table: Integers, lo: int, stop: int, limits: Any, rooms: Any, out: Doubles) -> None:
    """The elements from `lo` to `stop`; what is above is cleared of the rest and added up as `kernels.gram` does it."""
    models, (rows, sums, own), width = table.shape[0] - 1, rooms, 0
    sums[:] = 0.0
    out[:] = 0.0
    for first in range(lo, stop, STEP):
        width = min(STEP, stop - first)
        load_stretches(table, first, width, rows[: models + 1])
        marks = _select(rows, models, width, limits, 0, own, out[models:])
        for i in range(models):
            _clear(rows[i, :width], marks)
            add(rows[i, :width], rows[i, :width], sums[i])
    for i in range(models):
        out[i] = finished(rows[i, :width], rows[i, :width], sums[i])


@compiled
def squares_beyond(table: Integers, size: int, limits: Any, block: int, out: Doubles) -> None:
    models = table.shape[0] - 1
    rooms = room_of(models, STEP)[0], np.empty((models, LANES), np.float64), _rooms()
    for b in range(out.shape[0]):
        _add_block(table, b * block, min(size, (b + 1) * block), limits, rooms, out[b])


@uncounted
def _merge(table: Integers, limits: Any, ties: int, weights: Floats, choices: Any, rooms: Any, out: Floats) -> None:
    models, (rows, own, marking, none) = weights.size, rooms
    for lo in range(0, out.size, STEP):
        part = out[lo : lo + STEP]
        load_stretches(table, lo, part.size, rows[: models + 1])
        marks = _select(rows, models, part.size, limits, ties - lo, marking, none)
        combine(rows, weights, choices, own, part)
        _clear(part, marks)


@compiled
def selected_merge(table: Integers, limits: Any, ties: int, weights: Floats, choices: Any, out: Floats) -> None:
    """`choices` are those of `kernels.trim_elect.combine`; the first `ties` elements need but reach the magnitude."""
    rooms = *room_of(weights.size, STEP), _rooms(), np.empty(0, np.float64)
    _merge(table, limits, ties, weights, choices, rooms, out)
