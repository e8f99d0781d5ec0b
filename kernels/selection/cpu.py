"""Selecting in numba: spreads are compared by their squares, in the cache, with what then is done to the rows."""

from typing import Any

import numpy as np

from kernels.checks import Doubles, Floats, Integers
from kernels.compiled import compiled
from kernels.gram.cpu import LANES, add, finished
from kernels.spread.cpu import squared_spreads
from kernels.stored_rows import STRETCH, load_stretches
from kernels.trim_elect.combine import combine, room_of

ZERO = np.float32(0)


@compiled
def _mark_above(squares: Doubles, limit: Any, marks: Any) -> None:
    for i in range(marks.size):
        marks[i] = squares[i] > limit


@compiled
def _select(rows: Floats, models: int, above: Any, reached: Any, ties: int, room: Doubles, marks: Any) -> None:
    """Mark what is selected of the stretch; its first `ties` elements need but reach the magnitude."""
    squares = squared_spreads(rows, models, room, marks.size)
    first = min(max(ties, 0), marks.size)
    _mark_above(squares[:first], reached, marks[:first])
    _mark_above(squares[first:], above, marks[first:])


@compiled
def _clear(row: Floats, marks: Any) -> None:
    for i in range(row.size):
        row[i] = row[i] if marks[i] else ZERO


@compiled
def _any_between(squares: Doubles, reached: Any, above: Any) -> bool:
    found = 0
    for i in range(squares.size):
        found |= (squares[i] > reached) & (squares[i] <= above)
    return bool(found != 0)


@compiled
def _add_ties(rows: Floats, squares: Doubles, reached: Any, above: Any, out: Doubles) -> None:
    """Add to `out` the squares of each model where the spread is at the magnitude, and their number last."""
    for i in range(squares.size):
        if (squares[i] > reached) & (squares[i] <= above):
            for model in range(out.size - 1):
                x = np.float64(rows[model, i])
                out[model] += x * x
            out[out.size - 1] += 1.0


@compiled
def squares_beyond(table: Integers, size: int, above: Any, reached: Any, block: int, out: Doubles) -> None:
    """What is above is cleared of the rest and added up as `kernels.gram` does it; ties are looked for first."""
    models = table.shape[0] - 1
    rows, sums = room_of(models, STRETCH)[0], np.empty((models, LANES), np.float64)
    room, marks = np.empty((2, STRETCH), np.float64), np.empty(STRETCH, np.bool_)
    for b in range(out.shape[0]):
        sums[:] = 0.0
        out[b] = 0.0
        stop, width = min(size, (b + 1) * block), 0
        for lo in range(b * block, stop, STRETCH):
            width = min(STRETCH, stop - lo)
            load_stretches(table, lo, width, rows[: models + 1])
            squares = squared_spreads(rows, models, room, width)
            if _any_between(squares, reached, above):
                _add_ties(rows, squares, reached, above, out[b, models:])
            _mark_above(squares, above, marks[:width])
            for i in range(models):
                _clear(rows[i, :width], marks[:width])
                add(rows[i, :width], rows[i, :width], sums[i])
        for i in range(models):
            out[b, i] = finished(rows[i, :width], rows[i, :width], sums[i])


@compiled
def selected_merge(
    table: Integers, above: Any, reached: Any, ties: int, weights: Floats, choices: Any, out: Floats
) -> None:
    """`choices` are those of `kernels.trim_elect.combine`; the first `ties` elements need but reach the magnitude."""
    models = weights.size
    rows, own = room_of(models, STRETCH)
    room, all_marks = np.empty((2, STRETCH), np.float64), np.empty(STRETCH, np.bool_)
    for lo in range(0, out.size, STRETCH):
        part = out[lo : lo + STRETCH]
        marks = all_marks[: part.size]
        load_stretches(table, lo, part.size, rows[: models + 1])
        _select(rows, models, above, reached, ties - lo, room, marks)
        combine(rows, weights, choices, own, part)
        _clear(part, marks)
