"""DARE: drop entries at random, and divide those that stay by the share that stays.

Yu et al., "Language models are super Mario", 2023, https://arxiv.org/abs/2311.03099, section 3.
"""

from math import ceil

import numpy as np

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.dispatch import operation
from kernels.philox.stream import stream_of
from kernels.random_drop import cpu
from kernels.random_drop import merge as merged
from kernels.stored_rows import Rows, table_of
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.combine import choices_of

STEPS = 1 << 24
"""Draws are multiples of 1 / STEPS."""


@operation
def random_drop(
    rows: Floats, seed: int, stream: str, start: int, density: float, rescale: bool = True, out: Floats | None = None
) -> Floats:
    """Each entry x of float32 `rows` [ingredients, elements] as x / density with probability density, else 0.

    Row i, whose first element has flat index `start`, is kept where `philox.uniform(seed, stream, i, start)` is
    below `density`, compared exactly. Density 1 keeps every bit, 0 keeps nothing; one between 0 and 2^-24 counts
    as 2^-24. Without `rescale` nothing is divided. NaN and infinity become NaN where they are dropped. `out` may
    be `rows`.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    out = output("out", out, FLOAT32, rows.shape)
    limit, divisor = limit_and_divisor(density, rescale)
    words = np.array([stream_of(seed, stream, i) for i in range(len(rows))], np.uint64).reshape(len(rows), -1)
    if out is not rows:
        np.copyto(out, rows)
    cpu.random_drop(out, words, start, limit, divisor)
    return out


@operation
def drop_merge(
    rows: Rows,
    weights: Floats,
    seed: int,
    stream: str,
    start: int,
    density: float,
    rescale: bool = True,
    merge: Merge = "mean",
    elect: Elect = "weighted",
    zero_vote_sign: int = 0,
) -> Floats | None:
    """What `random_drop` leaves of `rows`, merged: float32 [elements]; None where an entry is NaN or infinite.

    `merge` all is `weighted_sum`, the others are `trim_elect`'s `how` with nothing trimmed.
    """
    source, models, size = table_of("rows", rows)
    choices, out = choices_of(weights, models, merge, elect, zero_vote_sign), np.empty(size, np.float32)
    streams = np.array([stream_of(seed, stream, i) for i in range(models)], np.uint64)
    chance = limit_and_divisor(density, rescale)
    return out if merged.drop_merge(source, streams, start, chance, weights, choices, out) else None


def rescaled(values: Floats, density: float) -> Floats:
    """`values` / density in their own memory: what `random_drop` leaves out without `rescale`."""
    return np.divide(values, limit_and_divisor(density, True)[1], out=values)


def limit_and_divisor(density: float, rescale: bool) -> tuple[np.uint32, np.float32]:
    """The upper bits of a word from which on entries are dropped, and what the others are divided by."""
    if not 0 <= density <= 1:
        raise ValueError(f"density: found {density}, expected 0 to 1")
    return np.uint32(ceil(density * STEPS)), np.float32(max(density, 1 / STEPS) if rescale else 1)
