"""The spread in numba: sums of a stretch of elements stay in the L1 cache while the models go by."""

from typing import Any

import numpy as np

from kernels.checks import Doubles, Floats, Integers
from kernels.compiled import compiled, inlined, pasted, uncounted
from kernels.kth_magnitude.cpu import count_top_of, magnitude_bits
from kernels.kth_magnitude.near import ABOVE, BETWEEN, INSIDE, SAMPLE, count_one, sampled_place
from kernels.marked import marked
from kernels.spread.bounds import FOUR, NOTHING, UNSURE, bounds, settle_zeros, squared_spread
from kernels.stored_rows import STEP, STRETCH, load_stretches


@inlined
def _add(row: Any, total: Any, squares: Any) -> None:
    for i in range(total.size):
        x = np.float64(row[i])
        total[i] += x
        squares[i] += x * x


@inlined
def _four_squared(rows: Any, count: Any, out: Any) -> None:
    """The same sums of four rows at most, in registers; a row that is missing is 0."""
    first, second, third, fourth = rows[0], rows[1], rows[2], rows[3]
    for i in range(out.size):
        a, b, c, d = np.float64(first[i]), np.float64(second[i]), np.float64(third[i]), np.float64(fourth[i])
        total = ((a + b) + c) + d
        squares = ((a * a + b * b) + c * c) + d * d
        out[i] = count * squares - total * total


@inlined
def _squared(count: Any, total: Any, squares: Any) -> None:
    for i in range(total.size):
        squares[i] = count * squares[i] - total[i] * total[i]


@pasted
def squared_spreads(rows: Floats, models: int, room: Doubles, width: int) -> Any:
    """The squares of the spreads, not rounded and perhaps below 0, of the first `models` of `rows`: in `room`.

    `rows` has at least four; what those after the models hold is lost.
    """
    squares, total = room[0, :width], room[1, :width]
    if models <= FOUR:
        rows[models:FOUR, :width] = np.float32(0)
        _four_squared(rows, np.float64(models), squares)
        return squares
    room[:] = 0.0
    for model in range(models):
        _add(rows[model, :width], total, squares)
    _squared(np.float64(models), total, squares)
    return squares


@inlined
def _root(square: Any) -> Any:
    # Not max(): a NaN has to come through.
    return np.float32(np.sqrt(0.0 if square < 0.0 else square))


@inlined
def _roots(squares: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = _root(squares[i])


@uncounted
def _spreads(table: Integers, lo: int, rows: Floats, room: Doubles, out: Floats) -> None:
    """Those of the elements from `lo` on, as many as `out` has."""
    models = table.shape[0] - 1
    load_stretches(table, lo, out.size, rows[: models + 1])
    _roots(squared_spreads(rows, models, room, out.size), out)


@compiled
def _rooms(models: int, width: int) -> Any:
    return np.empty((max(models, FOUR) + 1, width), np.float32), np.empty((2, width), np.float64)


@uncounted
def _fill(table: Integers, rows: Floats, room: Doubles, out: Floats) -> None:
    for lo in range(0, out.size, STEP):
        _spreads(table, lo, rows, room, out[lo : lo + STEP])


@compiled
def spread(table: Integers, out: Floats) -> None:
    rows, room = _rooms(table.shape[0] - 1, STEP)
    _fill(table, rows, room, out)


@uncounted
def _sample(table: Integers, size: int, start: int, rows: Floats, room: Doubles, row: Floats, out: Integers) -> None:
    for lo in range(0, size, STRETCH):
        first = lo + sampled_place((start + lo) // STRETCH)
        part = row[: max(min(SAMPLE, size - first), 0)]
        _spreads(table, first, rows, room, part)
        count_top_of(part, out)


@compiled
def sample_top(table: Integers, size: int, start: int, out: Integers) -> None:
    rows, room = _rooms(table.shape[0] - 1, SAMPLE)
    _sample(table, size, start, rows, room, np.empty(SAMPLE, np.float32), out)


@uncounted
def _count_sure(lows: Floats, highs: Floats, limits: Any, marks: Any, counts: Integers) -> None:
    """Count what is surely above the windows or between them, and mark what may be within."""
    low, past_low, high, past_high = limits
    above, between = np.uint32(0), np.uint32(0)
    for i in range(lows.size):
        is_above, is_between = lows[i] > past_high, (lows[i] > past_low) & (highs[i] <= high)
        above = np.uint32(above + np.uint32(is_above))
        between = np.uint32(between + np.uint32(is_between))
        marks[i] = NOTHING if is_above | is_between | (highs[i] <= low) else UNSURE
    counts[ABOVE] += above
    counts[BETWEEN] += between


@uncounted
def _count_unsure(rows: Floats, models: int, places: Integers, low: Any, high: Any, counts: Integers) -> None:
    for j in range(places.size):
        square = squared_spread(rows, models, places[j])
        count_one(magnitude_bits(_root(square)), low, high, counts)


@uncounted
def _count_stretch(table: Integers, lo: int, width: int, ends: Any, limits: Any, rooms: Any, out: Integers) -> None:
    """Of the elements from `lo` on; `ends` are the bits at which the windows begin."""
    models, (low, high), (rows, room, all_marks, places) = table.shape[0] - 1, ends, rooms
    marks = all_marks[:width]
    load_stretches(table, lo, width, rows[: models + 1])
    lows, highs = bounds(rows, models, width, room)
    _count_sure(lows, highs, limits, marks, out)
    if low == 0:
        out[INSIDE] += settle_zeros(rows, models, 0, marks)
    found = marked(marks, UNSURE, places)
    _count_unsure(rows, models, places[:found], low, high, out)


@compiled
def count_near(table: Integers, size: int, ends: Any, limits: Any, out: Integers) -> None:
    """`limits` are square limits of where the windows begin and end, rounded down to float32."""
    models = table.shape[0] - 1
    rows, room = np.empty((max(models, FOUR) + 1, STEP), np.float32), np.empty((2, STEP), np.float32)
    rooms = rows, room, np.empty(STEP, np.uint16), np.empty(STEP, np.int64)
    for lo in range(0, size, STEP):
        _count_stretch(table, lo, min(STEP, size - lo), ends, limits, rooms, out)
