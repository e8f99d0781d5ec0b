"""Bounds of squared spreads in float32: half the work, and few elements are so near a limit that they need more."""

from typing import Any

import numpy as np

from kernels.checks import Floats
from kernels.compiled import inlined, pasted, uncounted

FOUR = 4
UNIT = np.float32(2.0**-24)
TINY = np.float32(2.0**-126)
"""Far more than what is lost where squares are too small for a float32's exponent."""
NOTHING, SURE, UNSURE = np.uint16(0), np.uint16(1), np.uint16(2)


@uncounted
def share_of(models: int) -> Any:
    """What rounding changes a squared spread by, as a share of T Σx²: no more than (3T + 2) UNIT, of sums in any order.

    Of a sum of T entries by at most T UNIT of Σ|x|, whose square is no larger than T Σx².
    """
    return np.float32(4 * models + 8) * UNIT


@inlined
def _four_bounds(rows: Any, count: Any, share: Any, lows: Any, highs: Any) -> None:
    first, second, third, fourth = rows[0], rows[1], rows[2], rows[3]
    for i in range(lows.size):
        a, b, c, d = first[i], second[i], third[i], fourth[i]
        total = (a + b) + (c + d)
        squares = count * ((a * a + b * b) + (c * c + d * d))
        middle, margin = squares - total * total, share * squares + TINY
        lows[i], highs[i] = middle - margin, middle + margin


@inlined
def _add(row: Any, total: Any, squares: Any) -> None:
    for i in range(total.size):
        x = row[i]
        total[i] += x
        squares[i] += x * x


@inlined
def _bounds(count: Any, share: Any, total: Any, squares: Any) -> None:
    """In place: the lower bound where the sum was, the upper where the squares were."""
    for i in range(total.size):
        scaled = count * squares[i]
        middle, margin = scaled - total[i] * total[i], share * scaled + TINY
        total[i], squares[i] = middle - margin, middle + margin


@pasted
def bounds(rows: Floats, models: int, width: int, room: Floats) -> Any:
    """Lower and upper, of the first `width` elements: in `room` [2, elements].

    `rows` has at least four; what those after the models hold is lost. What is not finite, or too large for these
    bounds, has NaN for the lower one, or −inf.
    """
    lows, highs, count, share = room[0, :width], room[1, :width], np.float32(models), share_of(models)
    if models <= FOUR:
        rows[models:FOUR, :width] = np.float32(0)
        _four_bounds(rows, count, share, lows, highs)
        return lows, highs
    room[:] = np.float32(0)
    for model in range(models):
        _add(rows[model, :width], lows, highs)
    _bounds(count, share, lows, highs)
    return lows, highs


@uncounted
def mark_above(lows: Floats, highs: Floats, reached: Any, above: Any, marks: Any) -> None:
    """SURE where a square is above `above`, NOTHING where it is not above `reached`, UNSURE of others."""
    for i in range(lows.size):
        marks[i] = SURE if lows[i] > above else (NOTHING if highs[i] <= reached else UNSURE)


@uncounted
def settle_zeros(rows: Floats, models: int, ties: int, marks: Any) -> int:
    """Where no model changes anything the spread is 0: mark the first `ties` elements SURE there, no others."""
    found = np.int64(0)
    for i in range(marks.size):
        is_changed = False
        for model in range(models):
            is_changed |= rows[model, i] != 0
        if not is_changed:
            marks[i] = SURE if i < ties else NOTHING
            found += 1
    return int(found)


@inlined
def squared_spread(rows: Any, models: Any, place: Any) -> Any:
    """Of one element, in float64, as `squared_spreads` has it."""
    total, squares = 0.0, 0.0
    for model in range(models):
        x = np.float64(rows[model, place])
        total += x
        squares += x * x
    return np.float64(models) * squares - total * total
