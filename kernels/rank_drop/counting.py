"""Ranks by counting: how many entries of a row fall into each bin, added up, tells the first rank of each.

A bin is the exponent and 8 bits of the mantissa: all of what most differences of bfloat16 have. Entries with bits below
have bins of their own between those, and are put in order one by one; a row with many of them is for a sort.
Counting takes 1 ns an entry, where sorting takes 2.
"""

from typing import Any

import numpy as np

from kernels.checks import Floats
from kernels.compiled import compiled
from kernels.kth_magnitude.cpu import magnitude_bits
from kernels.lanes import marks_of, trailing_zeros

LOW_BITS = 15
BINS, RUN = 1 << 13, 1 << 7
"""Bins, two for each upper part of a magnitude: 16 octaves up to the row's largest. They lie RUN runs side by side, so
that the adding up goes through all runs at once."""

DEPTH = BINS // RUN
ODD = np.uint16(RUN)
"""The bit of a bin's place that says it is for entries with bits below."""

LANES = 64
NARROWEST, WIDEST = 768, (1 << 16) - 1
"""Rows for which counting pays, and whose ranks fit."""

INFINITY = np.uint32(0x7F800000)


@compiled
def largest(row: Floats) -> Any:
    """The bits of the largest magnitude: INFINITY or more where one is not finite."""
    found = np.uint32(0)
    for i in range(row.size):
        found = max(found, magnitude_bits(row[i]))
    return found


@compiled
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


@compiled
def _count(bins: Any, counts: Any, after: Any) -> None:
    """From the last entry on, how many of its bin come after each."""
    for back in range(bins.size):
        i = np.uint64(bins.size - 1 - back)  # numba would ask of a signed one whether it counts from the end
        place = bins[i]
        count = counts[place]
        after[i] = count
        counts[place] = np.uint16(count + np.uint16(1))


@compiled
def _list_odd(bins: Any, odd: Any) -> int:
    """The entries with bits below, as many as there is room for; returns how many."""
    found = 0
    for lo in range(0, bins.size, LANES):
        marks = marks_of(bins, lo, ODD)
        while marks != np.uint64(0) and found < odd.size:
            odd[found] = lo + trailing_zeros(marks)
            marks &= marks - np.uint64(1)
            found += 1
    return found


@compiled
def _add_up(counts: Any) -> None:
    """In place: each bin's entries and all those of lower bins."""
    for i in range(RUN, BINS):
        counts[i] = np.uint16(counts[i] + counts[i - RUN])
    total = np.uint16(0)
    for run in range(RUN):
        counts[BINS + run] = total
        total = np.uint16(total + counts[BINS - RUN + run])
    for lo in range(0, BINS, RUN):
        for run in range(RUN):
            counts[lo + run] = np.uint16(counts[lo + run] + counts[BINS + run])


@compiled
def _spread(bins: Any, upto: Any, after: Any, table: Floats, chances: Floats) -> None:
    one = np.uint16(1)
    for i in range(bins.size):
        chances[i] = table[np.uint16(upto[bins[i]] - after[i] - one)]


@compiled
def _sharing(row: Floats, bins: Any, upto: Any, odd: Any, sharing: Any) -> int:
    """Of the entries with bits below, those that share a bin: place of the bin, bits and index; returns how many."""
    found = 0
    for j in range(odd.size):
        place = np.uint64(bins[np.uint64(odd[j])])
        # The bin before an odd one is the even one of the same upper part, a run before it.
        if np.uint16(upto[place] - upto[place - np.uint64(RUN)]) > 1:
            bits = np.int64(magnitude_bits(row[odd[j]]))
            sharing[0, found], sharing[1, found], sharing[2, found] = np.int64(place), bits, odd[j]
            found += 1
    return found


@compiled
def _settle(upto: Any, sharing: Any, found: int, table: Floats, chances: Floats) -> None:
    """Put in order the entries that share a bin: by bits, then as they come."""
    for j in range(found):
        place, bits = sharing[0, j], sharing[1, j]
        rank = np.int64(upto[place - RUN])
        for other in range(found):
            is_ahead = (sharing[1, other] < bits) | ((sharing[1, other] == bits) & (other < j))
            rank += np.int64((sharing[0, other] == place) & is_ahead)
        chances[sharing[2, j]] = table[rank]


@compiled
def rooms_of(width: int) -> Any:
    """Scratch memory for rows of this width."""
    counts = np.empty(BINS + RUN, np.uint16)
    padded = -(-width // LANES) * LANES
    most = width // 8 + 1
    return counts, np.empty((2, padded), np.uint16), np.empty(most, np.int64), np.empty((3, most), np.int64)


@compiled
def rank(row: Floats, top: Any, table: Floats, rooms: Any, chances: Floats) -> bool:
    """Fill `chances` with the entry of `table` for each entry's rank; False where that is for a sort.

    `top` is what `largest` finds.
    """
    counts, places, odd, sharing = rooms
    bins, after = places[0], places[1]
    # The largest's bin is the last pair of bins, and what lies more than 16 octaves below it shares the first.
    lowest = np.int64(top >> np.uint32(LOW_BITS)) - (BINS // 2 - 1)
    _fill(row, np.uint32(lowest << LOW_BITS if lowest > 0 else 0), bins[: row.size])
    counts[:BINS] = 0
    bins[row.size :] = 0
    found = _list_odd(bins, odd)
    if found == odd.size:
        return False
    bins, after = bins[: row.size], after[: row.size]
    _count(bins, counts, after)
    _add_up(counts)
    _spread(bins, counts, after, table, chances)
    _settle(counts, sharing, _sharing(row, bins, counts, odd[:found], sharing), table, chances)
    return True
