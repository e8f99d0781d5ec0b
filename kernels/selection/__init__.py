"""The elements in which models are furthest apart, by `kernels.spread`: what SCE weighs and merges."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kernels.checks import Doubles, Floats
from kernels.dispatch import operation
from kernels.gram import BLOCK
from kernels.selection import cpu
from kernels.stored_rows import Rows, table_of
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.combine import choices_of

LARGEST = np.finfo(np.float32).max


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
    cpu.squares_beyond(table, size, *_square_limits(magnitude), BLOCK, out)
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
    cpu.selected_merge(table, *_limits(beyond, start, size), weights, choices, out)
    return out


def _limits(beyond: Beyond, start: int, size: int) -> tuple[np.float64, np.float64, int]:
    """What `_square_limits` gives, and how many first elements may equal the magnitude."""
    ties = min(max(beyond.cut, start - 1), start + size - 1) - (start - 1)
    return *_square_limits(beyond.magnitude), ties


def _square_limits(magnitude: np.float32) -> tuple[np.float64, np.float64]:
    """Squares above which a spread is beyond the magnitude, or reaches it."""
    return square_limit(magnitude), square_limit(np.nextafter(magnitude, np.float32(-1)))


@lru_cache(maxsize=64)
def square_limit(magnitude: np.float32) -> np.float64:
    """The largest float64 whose root, rounded to float32, is not above `magnitude`; so no root need be taken."""
    if not 0 <= magnitude < np.inf:
        return np.float64(magnitude if magnitude > 0 else -np.inf)
    above = np.nextafter(magnitude, np.float32(np.inf)) if magnitude < LARGEST else np.ldexp(1.0, 128)
    limit = np.square((np.float64(magnitude) + np.float64(above)) / 2)
    with np.errstate(over="ignore"):
        while np.float32(np.sqrt(limit)) > magnitude:
            limit = np.nextafter(limit, -np.inf)
        while np.float32(np.sqrt(np.nextafter(limit, np.inf))) <= magnitude:
            limit = np.nextafter(limit, np.inf)
    return np.float64(limit)
