"""Trim, elect, merge in numba: a stretch of all models at a time, so that nothing but inputs and output leaves L1.

Every choice is made outside the loops over elements; each of these is a few vector instructions.
"""

from typing import Any

import numpy as np

from kernels.bits import bits_of_float
from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.stored_rows import STEP, base_stretch, load_stretches, stretch
from kernels.trim_elect.four import FOUR, ONE, ZERO, elect_four, scales_of, suits


@inlined
def _keep_from(row: Any, limit: Any, kept: Any) -> None:
    """Zero what is below `limit`, the bits of a magnitude."""
    for i in range(row.size):
        bits = np.uint32(bits_of_float(row[i]) & np.uint32(0x7FFFFFFF))
        kept[i] = row[i] if bits >= limit else ZERO


@uncounted
def _trim(row: Floats, magnitude: Any, ties: int, kept: Floats) -> None:
    """Keep what exceeds `magnitude`, and what equals it among the first `ties` elements."""
    bits = np.uint32(bits_of_float(magnitude) & np.uint32(0x7FFFFFFF))
    first = min(max(ties, 0), row.size)
    _keep_from(row[:first], bits, kept[:first])
    _keep_from(row[first:], np.uint32(bits + np.uint32(1)), kept[first:])


@uncounted
def vote(kept: Floats, weight: Any, elect: int, votes: Floats) -> None:
    """Add a model's votes to those of the models before it."""
    if elect == 0:
        for i in range(votes.size):
            votes[i] = votes[i] + weight * kept[i]
    elif elect == 1:
        for i in range(votes.size):
            votes[i] = votes[i] + kept[i]
    else:
        for i in range(votes.size):
            x = kept[i]
            votes[i] = votes[i] + (ONE if x > ZERO else (-ONE if x < ZERO else ZERO))


@uncounted
def signs_of(votes: Floats, zero_vote_sign: Any) -> None:
    for i in range(votes.size):
        vote = votes[i]
        votes[i] = ONE if vote > ZERO else (-ONE if vote < ZERO else zero_vote_sign)


@uncounted
def _add_agreeing(
    kept: Floats, weight: Any, ballot: Any, share: Any, signs: Floats, out: Floats, shares: Floats
) -> None:
    for i in range(out.size):
        agrees = ballot * kept[i] * signs[i] > ZERO
        out[i] = out[i] + (weight * kept[i] if agrees else ZERO)
        shares[i] = shares[i] + (share if agrees else ZERO)


@uncounted
def _largest_agreeing(kept: Floats, weight: Any, ballot: Any, signs: Floats, out: Floats) -> None:
    for i in range(out.size):
        value = weight * kept[i]
        is_larger = (ballot * kept[i] * signs[i] > ZERO) & (abs(value) > abs(out[i]))
        out[i] = value if is_larger else out[i]


@uncounted
def _divide(out: Floats, shares: Floats) -> None:
    for i in range(out.size):
        out[i] = out[i] / shares[i] if shares[i] > ZERO else ZERO


@uncounted
def _elect(
    table: Integers,
    weights: Floats,
    magnitudes: Floats,
    ties: Integers,
    lo: int,
    elect: int,
    kept: Floats,
    votes: Floats,
) -> None:
    """The last two rows of `kept` are for what is read."""
    base, room = kept[weights.size, : votes.size], kept[weights.size + 1, : votes.size]
    base_stretch(table, lo, base)
    votes[:] = ZERO
    for model in range(weights.size):
        row = kept[model, : votes.size]
        _trim(stretch(table, model, lo, base, room), magnitudes[model], ties[model] - lo, row)
        vote(row, weights[model], elect, votes)


@uncounted
def merge_kept(kept: Floats, weights: Floats, signs: Floats, how: int, elect: int, out: Floats, shares: Floats) -> None:
    """What agrees with `signs`; `shares` is room for what it is divided by."""
    out[:] = ZERO
    shares[:] = ZERO
    for model in range(weights.size):
        row, weight = kept[model, : out.size], weights[model]
        ballot = weight if elect == 0 else ONE
        if how == 3:
            _largest_agreeing(row, weight, ballot, signs, out)
        else:
            _add_agreeing(row, weight, ballot, abs(weight) if how == 0 else ONE, signs, out, shares)
    if how < 2:
        _divide(out, shares)


@uncounted
def _elect_and_merge(
    table: Integers,
    weights: Floats,
    magnitudes: Floats,
    ties: Integers,
    lo: int,
    choices: Any,
    rooms: Any,
    out: Floats,
) -> None:
    how, elect, zero_vote_sign = choices
    kept, scratch = rooms
    votes, shares = scratch[0, : out.size], scratch[1, : out.size]
    _elect(table, weights, magnitudes, ties, lo, elect, kept, votes)
    signs_of(votes, zero_vote_sign)
    merge_kept(kept, weights, votes, how, elect, out, shares)


@uncounted
def _limits(magnitudes: Floats, ties: Integers, lo: int, width: int, limits: Any) -> bool:
    """The bits from which each model's entries are kept; False where its ties are cut off within the stretch."""
    limits[:] = np.uint32(0xFFFFFFFF)
    for model in range(magnitudes.size):
        left = ties[model] - lo
        if 0 < left < width:
            return False
        bits = np.uint32(bits_of_float(magnitudes[model]) & np.uint32(0x7FFFFFFF))
        limits[model] = bits if left > 0 else np.uint32(bits + np.uint32(1))
    return True


@uncounted
def _merge(
    table: Integers,
    weights: Floats,
    magnitudes: Floats,
    ties: Integers,
    choices: Any,
    rooms: Any,
    limits: Any,
    out: Floats,
) -> None:
    models, (how, elect, zero_vote_sign) = weights.size, choices
    is_plain, first_share = suits(models, how, elect), ONE if how == 2 else ZERO
    scales = scales_of(weights[:FOUR], how, elect)
    for lo in range(0, out.size, STEP):
        part = out[lo : lo + STEP]
        if is_plain and _limits(magnitudes, ties, lo, part.size, limits):
            rows = rooms[0]
            load_stretches(table, lo, part.size, rows[: models + 1])
            elect_four(rows, limits, scales, first_share, zero_vote_sign, part)
        else:
            _elect_and_merge(table, weights, magnitudes, ties, lo, choices, rooms, part)


@compiled
def trim_elect(
    table: Integers,
    weights: Floats,
    magnitudes: Floats,
    ties: Integers,
    how: int,
    elect: int,
    zero_vote_sign: Any,
    out: Floats,
) -> None:
    kept = np.empty((max(weights.size, FOUR) + 2, STEP), np.float32)
    rooms, limits = (kept, np.empty((2, STEP), np.float32)), np.empty(FOUR, np.uint32)
    _merge(table, weights, magnitudes, ties, (how, elect, zero_vote_sign), rooms, limits, out)


@uncounted
def _balance(
    table: Integers,
    size: int,
    weights: Floats,
    magnitudes: Floats,
    ties: Integers,
    elect: int,
    kept: Floats,
    scratch: Floats,
) -> Any:
    balance: Any = 0
    for lo in range(0, size, STEP):
        votes = scratch[: min(STEP, size - lo)]
        _elect(table, weights, magnitudes, ties, lo, elect, kept, votes)
        for i in range(votes.size):
            balance += np.int64(votes[i] > ZERO) - np.int64(votes[i] < ZERO)
    return balance


@compiled
def sign_balance(table: Integers, size: int, weights: Floats, magnitudes: Floats, ties: Integers, elect: int) -> Any:
    """Elects as trim_elect does, a stretch at a time, and counts instead of merging."""
    kept, scratch = np.empty((weights.size + 2, STEP), np.float32), np.empty(STEP, np.float32)
    return _balance(table, size, weights, magnitudes, ties, elect, kept, scratch)
