"""How far models are apart in each element."""

from functools import lru_cache

import numpy as np

from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array, output
from kernels.dispatch import operation
from kernels.kth_magnitude import BINS, NEAR_COUNTS, WINDOW, Near
from kernels.spread import cpu
from kernels.spread.limits import limit_of_bits, rounded_down
from kernels.stored_rows import Rows, table_of


@operation
def spread(rows: Rows, out: Floats | None = None) -> Floats:
    """√(T Σx² − (Σx)²) over T models, which is T standard deviations: float32 [elements] from [models, elements].

    Summed in float64, models in order, rounded once; exact sums where x are small multiples of a power of two, so
    that the order of models does not matter there. A NaN or infinity gives NaN.
    """
    table, _, size = table_of("rows", rows)
    out = output("out", out, FLOAT32, (size,))
    cpu.spread(table, out)
    return out


@operation
def sample_histogram(rows: Rows, start: int, out: Integers | None = None) -> Integers:
    """`kth_magnitude.sample_histogram` of the spreads: int64 [1, bins], added to `out`."""
    table, _, size = table_of("rows", rows)
    out = np.zeros((1, BINS[0]), np.int64) if out is None else out
    check_array("out", out, INT64, (1, BINS[0]))
    cpu.sample_top(table, size, start, out[0])
    return out


@operation
def near_histogram(rows: Rows, guess: Near, out: Integers | None = None) -> Integers:
    """`kth_magnitude.near_histogram` of the spreads: int64 [1, NEAR_COUNTS], added to `out`. No edges."""
    table, _, size = table_of("rows", rows)
    check_array("firsts", guess.firsts, INT64, (1, 2))
    out = np.zeros((1, NEAR_COUNTS), np.int64) if out is None else out
    check_array("out", out, INT64, (1, NEAR_COUNTS))
    low, high = (guess.firsts[0] << 15).tolist()
    cpu.count_near(table, size, (np.uint32(low), np.uint32(high)), _limits(low, high), out[0])
    return out


@lru_cache(maxsize=64)
def _limits(low: int, high: int) -> tuple[np.float32, ...]:
    """Of the squares of spreads in a window, for both: what they are above, and what they are not."""
    ends = (low, low + WINDOW * BINS[1], high, high + WINDOW * BINS[1])
    return tuple(rounded_down(limit_of_bits(bits)) for bits in ends)
