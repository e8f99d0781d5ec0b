"""Competition in numba: exponentials from their series, so that no library's rounding shows in the bytes."""

from math import factorial
from typing import Any

import numpy as np

from kernels.bits import float_of_bits
from kernels.checks import Doubles, Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.kth_magnitude.cpu import count_low_of, count_top_of
from kernels.stored_rows import load_stretches

STEP = 1024
ZERO, ONE = np.float32(0), np.float32(1)

LOG2_E = 1.4426950408889634
# ln 2 in two parts, the first with so few bits that its product with an exponent is exact.
LN2_HIGH, LN2_LOW = 0.693147180369123816490, 1.90821492927058770002e-10
EXP = tuple(1 / factorial(n) for n in range(14))
TANH = (1.0, -1 / 3, 2 / 15, -17 / 315, 62 / 2835, -1382 / 155925, 21844 / 6081075, -929569 / 638512875)
TANH_SERIES_BELOW = 0.25
TANH_IS_ONE_FROM = 20.0
SMALLEST_EXPONENT = -87.0


@inlined
def _exp(y: Any) -> Any:
    """Of −87 to 87, to float64's last few bits; a power of 2 is put together from a float32's exponent."""
    k = np.floor(y * LOG2_E + 0.5)
    r = (y - k * LN2_HIGH) - k * LN2_LOW
    total = EXP[13]
    for n in range(12, -1, -1):
        total = total * r + EXP[n]
    return total * np.float64(float_of_bits(np.uint32((np.int32(k) + np.int32(127)) << np.int32(23))))


@inlined
def _tanh(x: Any) -> Any:
    """Odd, so that its sign is that of x; near 0 by its own series, where 1 − e^{2x} would cancel."""
    size = min(abs(x), TANH_IS_ONE_FROM)
    power = _exp(2.0 * size)
    square = min(size, TANH_SERIES_BELOW) * min(size, TANH_SERIES_BELOW)
    series = TANH[7]
    for n in range(6, -1, -1):
        series = series * square + TANH[n]
    result = size * series if size < TANH_SERIES_BELOW else (power - 1.0) / (power + 1.0)
    return -result if x < 0.0 else result


@uncounted
def _add(row: Floats, total: Doubles) -> None:
    for i in range(total.size):
        total[i] = total[i] + np.float64(row[i])


@uncounted
def _load(table: Integers, lo: int, width: int, rows: Floats, total: Doubles) -> None:
    """All tasks' elements from `lo` on, and their sums."""
    load_stretches(table, lo, width, rows)
    total[:] = 0.0
    for task in range(rows.shape[0] - 1):
        _add(rows[task, :width], total)


@uncounted
def _balance(row: Floats, low: Any, high: Any, tasks: int, total: Doubles, out: Floats) -> None:
    width = np.float64(high) - np.float64(low)
    inverse = 1.0 / width if width > 0.0 else 0.0
    for i in range(out.size):
        x = np.float64(row[i])
        m = (min(max(abs(x), np.float64(low)), np.float64(high)) - np.float64(low)) * inverse
        exponent = max(tasks * (m * m - 1.0), SMALLEST_EXPONENT)
        out[i] = np.float32(_exp(exponent) * _tanh(x * total[i]))


@compiled
def balance(table: Integers, lows: Floats, highs: Floats, out: Floats) -> None:
    tasks, size = out.shape
    rows, scratch = np.empty((tasks + 1, STEP), np.float32), np.empty(STEP, np.float64)
    for lo in range(0, size, STEP):
        width = min(STEP, size - lo)
        _load(table, lo, width, rows, scratch[:width])
        for task in range(tasks):
            part = out[task, lo : lo + width]
            _balance(rows[task, :width], lows[task], highs[task], tasks, scratch[:width], part)


@uncounted
def _part_by_sign(beta: Floats, positive: Floats, negative: Floats) -> None:
    for i in range(beta.size):
        b = beta[i]
        positive[i] = b if b > ZERO else ZERO
        negative[i] = -b if b < ZERO else ZERO


@compiled
def count_by_sign(
    table: Integers, size: int, lows: Floats, highs: Floats, round_: int, prefixes: Integers, out: Integers
) -> None:
    """β never leaves the cache; a histogram of each task's positive part, then one of each negative part."""
    tasks = lows.size
    rows, scratch = np.empty((tasks + 1, STEP), np.float32), np.empty(STEP, np.float64)
    room = np.empty((3, STEP), np.float32)
    for lo in range(0, size, STEP):
        width = min(STEP, size - lo)
        _load(table, lo, width, rows, scratch[:width])
        beta = room[0, :width]
        for task in range(tasks):
            _balance(rows[task, :width], lows[task], highs[task], tasks, scratch[:width], beta)
            _part_by_sign(beta, room[1, :width], room[2, :width])
            for sign in range(2):
                at = task + sign * tasks
                if round_ == 0:
                    count_top_of(room[1 + sign, :width], out[0, at])
                else:
                    for search in range(out.shape[0]):
                        count_low_of(room[1 + sign, :width], prefixes[search, at], out[search, at])


@uncounted
def _add_share(
    row: Floats, beta: Floats, weight: Any, low: Any, high: Any, floor: Any, top: Any, out: Floats, shares: Floats
) -> None:
    width = top - floor
    for i in range(out.size):
        x, b = row[i], beta[i]
        size = min(max(abs(x), low), high)
        value = -size if x < ZERO else (size if x > ZERO else ZERO)
        reached = ONE if (b >= top) & (b > ZERO) else ZERO
        share = (min(max(b, floor), top) - floor) / width if width > ZERO else reached
        out[i] = out[i] + weight * value * share
        shares[i] = shares[i] + share


@uncounted
def _divide(out: Floats, shares: Floats) -> None:
    for i in range(out.size):
        out[i] = out[i] / shares[i] if shares[i] > ZERO else ZERO


@compiled
def compete(
    table: Integers, weights: Floats, lows: Floats, highs: Floats, floors: Floats, tops: Floats, out: Floats
) -> None:
    """β never leaves the cache: it is worked out anew here, a stretch at a time."""
    tasks = weights.size
    rows, scratch = np.empty((tasks + 1, STEP), np.float32), np.empty((2, STEP), np.float32)
    sums = np.empty(STEP, np.float64)
    for lo in range(0, out.size, STEP):
        part = out[lo : lo + STEP]
        beta, shares, total = scratch[0, : part.size], scratch[1, : part.size], sums[: part.size]
        _load(table, lo, part.size, rows, total)
        part[:] = ZERO
        shares[:] = ZERO
        for t in range(tasks):
            row = rows[t, : part.size]
            _balance(row, lows[t], highs[t], tasks, total, beta)
            _add_share(row, beta, weights[t], lows[t], highs[t], floors[t], tops[t], part, shares)
        _divide(part, shares)
