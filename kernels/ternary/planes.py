"""Where bitplanes lie: an expert's two planes, and the element within them at which a run begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WORD_BYTES = 8
START = 3


class Planes(NamedTuple):
    """Bit i of `positive` is set where element i is +, of `negative` where it is −; both uint8, whole words.

    Bit i is bit i % 8, the lowest first, of byte i // 8. A run of elements begins at `start`.
    """

    positive: NDArray[np.uint8]
    negative: NDArray[np.uint8]
    start: int = 0


@dataclass(frozen=True, slots=True)
class Places:
    """Several experts' planes, checked once for all runs of their elements.

    `table` has the addresses, the length in words and the start of each.
    """

    experts: Sequence[Planes]
    table: NDArray[np.uint64]

    @classmethod
    def of(cls, experts: Sequence[Planes]) -> "Places":
        """Raises ValueError for planes that do not fit each other."""
        return cls(experts, np.array([_entry(expert) for expert in experts], np.uint64).reshape(len(experts), 4))

    def moved(self, elements: int) -> "Places":
        """The same planes from so many elements later on."""
        table = self.table.copy()
        table[:, START] += np.uint64(elements)
        return Places(self.experts, table)

    def check(self, size: int) -> None:
        """Raises ValueError where a run of `size` elements does not lie within the planes."""
        ends = self.table[:, START] + np.uint64(size)
        for place in np.flatnonzero(ends > self.table[:, START - 1] * np.uint64(8 * WORD_BYTES)):
            words, start = map(int, self.table[place, START - 1 :])
            raise _misfit(words * WORD_BYTES, words * WORD_BYTES, start, size)


def plane_bytes(size: int) -> int:
    """Bytes of a plane of so many elements: whole words of 64."""
    return -(-size // 64) * WORD_BYTES


def table_of(experts: Sequence[Planes] | Places, size: int) -> NDArray[np.uint64]:
    """Addresses, length in words and start of each expert; refuses planes that do not hold `size` elements."""
    places = experts if isinstance(experts, Places) else Places.of(experts)
    places.check(size)
    return places.table


def _entry(expert: Planes) -> tuple[int, int, int, int]:
    positive, negative, start = expert
    for plane in (positive, negative):
        _check_plane(plane)
    if positive.size != negative.size or start < 0:
        raise _misfit(positive.size, negative.size, start, 0)
    return positive.ctypes.data, negative.ctypes.data, positive.size // WORD_BYTES, start


def _misfit(positive: int, negative: int, start: int, size: int) -> ValueError:
    found, expected = f"{positive} and {negative} bytes", f"two of equal length for elements {start} to {start + size}"
    return ValueError(f"planes: found {found}, expected {expected}")


def _check_plane(plane: Any) -> None:
    if not isinstance(plane, np.ndarray) or plane.dtype != np.uint8 or plane.ndim != 1 or plane.size % WORD_BYTES:
        raise ValueError("planes: expected uint8 [bytes], in whole words of 8 bytes")
    if not plane.flags.c_contiguous:
        raise ValueError("planes: found a non-contiguous array, expected a contiguous one")
