"""Spreads compared by their squares, so that no root need be taken."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

LARGEST = np.finfo(np.float32).max
INFINITE = 0x7F800000


class Limits(NamedTuple):
    """Squares above which a spread reaches a magnitude, and is beyond it; and both rounded down to float32."""

    reached: np.float64
    above: np.float64
    narrow_reached: np.float32
    narrow_above: np.float32


@lru_cache(maxsize=64)
def limits_of(magnitude: np.float32) -> Limits:
    reached, above = limit_below(magnitude), square_limit(magnitude)
    return Limits(reached, above, rounded_down(reached), rounded_down(above))


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


def limit_below(magnitude: np.float32) -> np.float64:
    """Squares above it have a root of at least `magnitude`."""
    return square_limit(np.nextafter(magnitude, np.float32(-1)))


def limit_of_bits(bits: int) -> np.float64:
    """Squares above it have a root of at least these bits, which no root has if they are beyond those of infinity."""
    return limit_below(np.uint32(bits).view(np.float32)) if bits <= INFINITE else np.float64(np.inf)


def rounded_down(limit: np.float64) -> np.float32:
    """The largest float32 up to `limit`: what is above it is above `limit`, and what is not is not."""
    with np.errstate(over="ignore"):
        narrow = np.float32(limit)
    return narrow if narrow <= limit and narrow < np.inf else np.nextafter(narrow, np.float32(-np.inf))
