"""The elements in which models are furthest apart, by `kernels.spread`: what SCE weighs and merges."""

from typing import NamedTuple

import numpy as np

from kernels.checks import Doubles, Floats
from kernels.dispatch import operation
from kernels.gram import BLOCK
from kernels.selection import cpu
from kernels.spread.limits import limits_of
from kernels.stored_rows import Rows, table_of
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.combine import choices_of


class Beyond(NamedTuple):
    """Selected are spreads above `magnitude`, and those that equal it at a flat index up to `cut`."""

    magnitude: np.float32
    cut: int


@operation
def squares_beyond(rows: Rows, magnitude: np.float32) -> Doubles:
    """Of each BLOCK consecutive elements: float64 [blocks, 2·models + 1].

    For each model Σ x_i² where the spread is above `magnitude`, added up as by `kernels.gram.squares`, to the bit;
    then for each Σ x_i² where it equals it, in order; then how many equal it.
    """
    table, models, size = table_of("rows", rows)
    out = np.empty((-(-size // BLOCK), 2 * models + 1))
    cpu.squares_beyond(table, size, limits_of(magnitude), BLOCK, out)
    return out


@operation
def selected_merge(
    rows: Rows,
    beyond: Beyond,
    start: int,
    weights: Floats,
    merge: Merge = "mean",
    elect: Elect = "unweighted",
    zero_vote_sign: int = 0,
) -> Floats:
    """The rows merged as by `trim_elect` with nothing trimmed, where they are selected; 0 elsewhere."""
    table, models, size = table_of("rows", rows)
    choices, out = choices_of(weights, models, merge, elect, zero_vote_sign), np.empty(size, np.float32)
    ties = min(max(beyond.cut, start - 1), start + size - 1) - (start - 1)
    cpu.selected_merge(table, limits_of(beyond.magnitude), ties, weights, choices, out)
    return out
