"""Where bitplanes lie: an expert's two planes, and the element within them at which a run begins."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD_BYTES = 8


class Planes(NamedTuple):
    """Bit i of `positive` is set where element i is +, of `negative` where it is −; both uint8, whole words.

    Bit i is bit i % 8, the lowest first, of byte i // 8. A run of elements begins at `start`.
    """

    positive: NDArray[np.uint8]
    negative: NDArray[np.uint8]
    start: int = 0


def plane_bytes(size: int) -> int:
    """Bytes of a plane of so many elements: whole words of 64."""
    return -(-size // 64) * WORD_BYTES


def table_of(experts: Sequence[Planes], size: int) -> NDArray[np.uint64]:
    """Addresses, length in words and start of each expert; refuses planes that do not hold `size` elements."""
    return np.array([_entry(expert, size) for expert in experts], np.uint64).reshape(len(experts), 4)


def _entry(expert: Planes, size: int) -> tuple[int, int, int, int]:
    positive, negative, start = expert
    for plane in (positive, negative):
        _check_plane(plane)
    if positive.size != negative.size or start < 0 or 8 * positive.size < start + size:
        found = f"{positive.size} and {negative.size} bytes"
        raise ValueError(f"planes: found {found}, expected two of equal length for elements {start} to {start + size}")
    return positive.ctypes.data, negative.ctypes.data, positive.size // WORD_BYTES, start


def _check_plane(plane: Any) -> None:
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8 or plane.ndim != 1 or plane.size % WORD_BYTES:
        raise ValueError("planes: expected uint8 [bytes], in whole words of 8 bytes")
    if not plane.flags.c_contiguous:
        raise ValueError("planes: found a non-contiguous array, expected a contiguous one")
