"""Ranks by counting: how many entries of a row fall into the bins before it, added up, tells the first rank of each.

A bin is the exponent and 8 bits of the mantissa: all of what most differences of bfloat16 have. Entries with bits below
have bins of their own between those, and are put in order one by one; a row with many of them is for a sort.
Counting takes 1 ns an entry, where sorting takes 2.
"""

from typing import Any

import numpy as np

from kernels.checks import Floats
from kernels.compiled import compiled, uncounted
from kernels.kth_magnitude.cpu import magnitude_bits
from kernels.marked import LANES, marked
from kernels.rank_drop.starts import BINS, DEPTH, RUN, room_for_counts, starts_of

LOW_BITS = 15
ODD = np.uint16(RUN)
"""The bit of a bin's place that says it is for entries with bits below."""

NARROWEST, WIDEST = 768, (1 << 16) - 1
"""Rows for which counting pays, and whose ranks fit."""

INFINITY = np.uint32(0x7F800000)


@uncounted
def largest(row: Floats) -> Any:
    """The bits of the largest magnitude: INFINITY or more where one is not finite."""
    found = np.uint32(0)
    for i in range(row.size):
        found = max(found, magnitude_bits(row[i]))
    return found


@uncounted
def _fill(row: Floats, first: Any, bins: Any) -> None:
    """The place of each entry's bin; `first` are the smallest bits that have a bin, which all below share."""
    for i in range(row.size):
        bits = magnitude_bits(row[i])
        above = np.uint32(max(bits, first) - first)
        below = np.uint32(above & np.uint32((1 << LOW_BITS) - 1)) if bits > first else bits
        number = np.uint32(above >> np.uint32(LOW_BITS - 1)) & np.uint32(BINS - 2)
        number = np.uint32(number | np.uint32(below != np.uint32(0)))
        place = np.uint32(np.uint32(number & np.uint32(DEPTH - 1)) * np.uint32(RUN))
        bins[i] = np.uint16(np.uint32(place | np.uint32(number // np.uint32(DEPTH))))


@uncounted
def _count(bins: Any, counts: Any) -> None:
    for k in range(bins.size):
        place = bins[np.uint64(k)]  # numba would ask of a signed index whether it counts from the end
        counts[place] = np.uint16(counts[place] + np.uint16(1))


@uncounted
def _spread(bins: Any, starts: Any, table: Floats, chances: Floats) -> None:
    """Give out each bin's ranks in element order; its start moves on to its end."""
    for k in range(bins.size):
        i = np.uint64(k)
        place = bins[i]
        rank = starts[place]
        chances[i] = table[rank]
        starts[place] = np.uint16(rank + np.uint16(1))


@uncounted
def _sharing(row: Floats, bins: Any, ends: Any, odd: Any, sharing: Any) -> int:
    """Of the entries with bits below, those that share a bin: place of the bin, bits and index; returns how many."""
    found = 0
    for j in range(odd.size):
        place = np.uint64(bins[np.uint64(odd[j])])
        # The bin before an odd one is the even one of the same upper part, a run before it.
        if np.uint16(ends[place] - ends[place - np.uint64(RUN)]) > 1:
            bits = np.int64(magnitude_bits(row[odd[j]]))
            sharing[0, found], sharing[1, found], sharing[2, found] = np.int64(place), bits, odd[j]
            found += 1
    return found


@uncounted
def _settle(ends: Any, sharing: Any, found: int, table: Floats, chances: Floats) -> None:
    """Put in order the entries that share a bin: by bits, then as they come."""
    for j in range(found):
        place, bits = sharing[0, j], sharing[1, j]
        rank = np.int64(ends[place - RUN])
        for other in range(found):
            is_ahead = (sharing[1, other] < bits) | ((sharing[1, other] == bits) & (other < j))
            rank += np.int64((sharing[0, other] == place) & is_ahead)
        chances[sharing[2, j]] = table[rank]


@compiled
def rooms_of(width: int) -> Any:
    """Scratch memory for rows of this width."""
    padded = -(-width // LANES) * LANES
    most = width // 8 + 1
    return room_for_counts(), np.empty(padded, np.uint16), np.empty(most, np.int64), np.empty((3, most), np.int64)


@uncounted
def rank(row: Floats, top: Any, table: Floats, rooms: Any, chances: Floats) -> bool:
    """Fill `chances` with the entry of `table` for each entry's rank; False where that is for a sort.

    `top` is what `largest` finds.
    """
    counts, bins, odd, sharing = rooms
    # The largest's bin is the last pair of bins, and what lies more than 16 octaves below it shares the first.
    lowest = np.int64(top >> np.uint32(LOW_BITS)) - (BINS // 2 - 1)
    bins = bins[: row.size]
    _fill(row, np.uint32(lowest << LOW_BITS if lowest > 0 else 0), bins)
    found = marked(bins, ODD, odd)
    if found == odd.size:
        return False
    counts[RUN:] = 0
    _count(bins, counts[RUN:])
    starts_of(counts)
    _spread(bins, counts, table, chances)
    _settle(counts, sharing, _sharing(row, bins, counts, odd[:found], sharing), table, chances)
    return True
