"""What ends every kernel that thins out rows: the rows of a stretch, still in the cache, elected or added up."""

from typing import Any, NamedTuple

import numpy as np

from kernels.checks import FLOAT32, Floats, check_array, check_choice
from kernels.compiled import compiled, inlined, uncounted
from kernels.runs import put
from kernels.stored_rows import STRETCH
from kernels.trim_elect.choices import ELECTS, MERGES, Elect, Merge
from kernels.trim_elect.cpu import merge_kept, signs_of, vote
from kernels.trim_elect.four import FOUR, ONE, ZERO, elect_whole_four, scales_of, suits

ALL = MERGES.index("all")


class Choices(NamedTuple):
    """What a compiled kernel is told about the merge, by position in `MERGES` and `ELECTS`."""

    merge: int
    elect: int
    zero_vote_sign: np.float32


def choices_of(weights: Floats, models: int, merge: Merge, elect: Elect, zero_vote_sign: int) -> Choices:
    check_array("weights", weights, FLOAT32, (models,))
    check_choice("merge", merge, MERGES)
    check_choice("elect", elect, ELECTS)
    return Choices(MERGES.index(merge), ELECTS.index(elect), np.float32(zero_vote_sign))


@compiled
def room_of(models: int, width: int) -> Any:
    """Rows for `combine` to take, the base behind those of the models, and room of its own."""
    return np.empty((max(models, FOUR) + 1, width), np.float32), np.empty((2, width), np.float32)


@inlined
def _add_up(rows: Any, weights: Any, out: Any) -> None:
    for model in range(weights.size):
        row, weight = rows[model], weights[model]
        if model == 0:
            for i in range(out.size):
                out[i] = weight * row[i]
        else:
            for i in range(out.size):
                out[i] = out[i] + weight * row[i]


@inlined
def _add_up_four(rows: Any, weights: Any, out: Any) -> None:
    """The same sum, without a way to memory after each model: 0.09 ns an element less."""
    p, q, r, s = rows[0], rows[1], rows[2], rows[3]
    a, b, c, d = weights[0], weights[1], weights[2], weights[3]
    for i in range(out.size):
        out[i] = a * p[i] + b * q[i] + c * r[i] + d * s[i]


@uncounted
def _elect_four(rows: Floats, weights: Floats, choices: Any, out: Floats) -> None:
    how, elect, zero_vote_sign = choices
    for model in range(weights.size, FOUR):
        rows[model, : out.size] = ZERO
    elect_whole_four(rows, scales_of(weights, how, elect), ONE if how == 2 else ZERO, zero_vote_sign, out)


@uncounted
def combine(rows: Floats, weights: Floats, choices: Any, scratch: Floats, out: Floats) -> None:
    """`out` from the first elements of thinned rows, as many as it has; rows beyond the models' may be overwritten."""
    how, elect, zero_vote_sign = choices
    if how == ALL and weights.size == FOUR:
        _add_up_four(rows, weights, out)
    elif how == ALL:
        _add_up(rows, weights, out)
    elif suits(weights.size, how, elect):
        _elect_four(rows, weights, choices, out)
    else:
        votes, shares = scratch[0, : out.size], scratch[1, : out.size]
        votes[:] = ZERO
        for model in range(weights.size):
            vote(rows[model, : out.size], weights[model], elect, votes)
        signs_of(votes, zero_vote_sign)
        merge_kept(rows, weights, votes, how, elect, out, shares)


@compiled
def combine_rows(rows: Floats, weights: Floats, choices: Any, out: Floats) -> None:
    """The same of rows [models, elements] in memory."""
    own_rows, scratch = room_of(weights.size, STRETCH)
    for lo in range(0, out.size, STRETCH):
        part = out[lo : lo + STRETCH]
        for model in range(weights.size):
            put(rows[model, lo:], own_rows[model, : part.size])
        combine(own_rows, weights, choices, scratch, part)
