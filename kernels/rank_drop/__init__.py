"""MagPrune: drop entries at random, the small ones of each row more often than the large ones.

Deep et al., "DELLA-Merging", 2024, https://arxiv.org/abs/2406.11617, section 3.1.
"""

import numpy as np

from kernels.all_finite import all_finite
from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.dispatch import operation
from kernels.philox.stream import stream_of
from kernels.rank_drop import cpu
from kernels.rank_drop import merge as merged
from kernels.rank_drop.counting import NARROWEST, WIDEST
from kernels.stored_rows import Rows, StoredRows, table_of
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.combine import choices_of, combine_rows


@operation
def rank_drop(
    rows: Floats,
    width: int,
    seed: int,
    stream: str,
    start: int,
    shares: tuple[float, float],
    rescale: bool = True,
    out: Floats | None = None,
) -> Floats:
    """Each entry x of float32 `rows` [ingredients, elements] as x / p with probability p, else 0.

    An ingredient's elements are whole rows of `width`, the first at flat index `start`. In each, p rises in even
    steps from shares[0] at the smallest magnitude to shares[1] at the largest; equal magnitudes rank in element
    order, and a row of one entry has the mean of both. Row i of `rows` is kept where
    `philox.uniform(seed, stream, i, start)` is below p. Without `rescale` nothing is divided. NaN and infinity
    become NaN where they are dropped. `out` may be `rows`.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    _check_width(width, rows.shape[1])
    out = output("out", out, FLOAT32, rows.shape)
    table = chances(width, shares)
    if out is not rows:
        np.copyto(out, rows)
    for i, row in enumerate(out):
        words = np.array(stream_of(seed, stream, i), np.uint64)
        cpu.rank_drop(row, table, words, start, rescale)
    return out


@operation
def rank_merge(
    rows: Rows,
    weights: Floats,
    width: int,
    seed: int,
    stream: str,
    start: int,
    shares: tuple[float, float],
    rescale: bool = True,
    merge: Merge = "mean",
    elect: Elect = "weighted",
    zero_vote_sign: int = 0,
) -> Floats | None:
    """What `rank_drop` leaves of `rows`, merged: float32 [elements]; None where an entry is NaN or infinite.

    `merge` all is `weighted_sum`, the others are `trim_elect`'s `how` with nothing trimmed.
    """
    source, models, size = table_of("rows", rows)
    _check_width(width, size)
    choices, out, done = choices_of(weights, models, merge, elect, zero_vote_sign), np.empty(size, np.float32), 0
    if NARROWEST <= width <= WIDEST:
        streams = np.array([stream_of(seed, stream, i) for i in range(models)], np.uint64)
        drawing = streams, start, rescale
        done, end = merged.rank_merge(source, chances(width, shares), drawing, weights, choices, out)
        if end == merged.NOT_FINITE:
            return None
    if done < size:
        rest = rows.run(done, size - done).load() if isinstance(rows, StoredRows) else rows[:, done:].copy()
        if not all_finite(rest.reshape(-1), "float32"):
            return None
        rank_drop(rest, width, seed, stream, start + done, shares, rescale, rest)
        combine_rows(rest, weights, choices, out[done:])
    return out


def _check_width(width: int, size: int) -> None:
    if width < 1 or size % width:
        raise ValueError(f"width: found {width}, expected a divisor of {size}")


def chances(width: int, shares: tuple[float, float]) -> Floats:
    """The keep probability of each rank, rounded to float32 from float64."""
    lowest, highest = shares
    if not 0 <= lowest <= highest <= 1:
        raise ValueError(f"shares: found {lowest} to {highest}, expected a range within 0 to 1")
    if width == 1:
        return np.array([(lowest + highest) / 2], np.float32)
    return (lowest + (highest - lowest) * (np.arange(width) / (width - 1))).astype(np.float32)
