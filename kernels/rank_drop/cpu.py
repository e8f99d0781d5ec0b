"""Ranks by sorting integers: a magnitude's bits above, its place below, so that all keys differ.

numpy sorts integers in vector registers: in rows of 2048 an entry takes 2.8 ns with 64 bits, 1.1 ns with 32 and
7.4 ns in an argsort. 32 bits hold the place and most of the magnitude; what the lowest bits of the magnitude decide,
seldom in deltas of bfloat16, is put in order afterwards.
"""

from typing import Any

import numpy as np

from kernels.bits import bits_of_float
from kernels.checks import Floats
from kernels.compiled import inlined, uncounted
from kernels.philox import cpu as philox

SORTED_AT_ONCE = 1 << 14
"""Elements whose keys, draws and chances stay in the second-level cache."""

WIDEST = 1 << 16
"""Longer rows would leave too little of a key for the magnitude."""

LONGEST_GROUP = 64
"""Entries that may be put in order one by one; where more share the upper bits of a key, 64 bits are sorted."""


def rank_drop(row: Floats, table: Floats, words: Any, start: int, rescale: bool) -> None:
    """`row` in place."""
    step = max(SORTED_AT_ONCE // table.size, 1) * table.size
    scratch = np.empty((2, min(step, row.size)), np.float32)
    for lo in range(0, row.size, step):
        part = row[lo : lo + step]
        chances, draws = scratch[0, : part.size], scratch[1, : part.size]
        _rank(part, table, chances)
        philox.uniform(words, start + lo, draws)
        keep_below(draws, chances, rescale, part)


def _rank(part: Floats, table: Floats, chances: Floats) -> None:
    """Fill `chances` with the entry of `table` for each element's rank in its row."""
    width = table.size
    places = (width - 1).bit_length()
    if width <= WIDEST:
        keys = np.empty(part.size, np.uint32)
        _fill_keys(part, width, places, keys)
        keys.reshape(-1, width).sort(axis=1)
        if _settle(part, width, places, keys):
            _spread_chances(keys, table, np.uint32((1 << places) - 1), chances)
            return
    wide = np.empty(part.size, np.uint64)
    _fill_wide_keys(part, width, wide)
    wide.reshape(-1, width).sort(axis=1)
    _spread_chances(wide, table, np.uint64(0xFFFFFFFF), chances)


@inlined
def _bits(value: Any) -> Any:
    return np.uint32(bits_of_float(value) & np.uint32(0x7FFFFFFF))


@inlined
def _left_out(places: Any) -> Any:
    """How many of the lowest of a magnitude's 31 bits have no room in a key."""
    return np.uint32(max(places - 1, 0))


@uncounted
def _fill_row(row: Floats, places: Any, keys: Any) -> None:
    shift, left_out = np.uint32(places), _left_out(places)
    for i in range(keys.size):
        keys[i] = np.uint32(np.uint32(_bits(row[i]) >> left_out) << shift) | np.uint32(i)


@uncounted
def _fill_keys(row: Floats, width: int, places: int, keys: Any) -> None:
    for lo in range(0, row.size, width):
        _fill_row(row[lo : lo + width], places, keys[lo : lo + width])


@uncounted
def _fill_wide_row(row: Floats, keys: Any) -> None:
    for i in range(keys.size):
        keys[i] = (np.uint64(_bits(row[i])) << np.uint64(32)) | np.uint64(i)


@uncounted
def _fill_wide_keys(row: Floats, width: int, keys: Any) -> None:
    for lo in range(0, row.size, width):
        _fill_wide_row(row[lo : lo + width], keys[lo : lo + width])


@uncounted
def _count_cut(row: Floats, mask: Any) -> Any:
    """How many entries have a bit set that has no room in their key."""
    count = np.uint32(0)
    for i in range(row.size):
        count += np.uint32((_bits(row[i]) & mask) != np.uint32(0))
    return count


@uncounted
def _settle(part: Floats, width: int, places: int, keys: Any) -> bool:
    """Put in order what the keys alone do not tell; False where that would take too long."""
    mask = np.uint32((np.uint32(1) << _left_out(places)) - np.uint32(1))
    for lo in range(0, part.size, width):
        row, its_keys = part[lo : lo + width], keys[lo : lo + width]
        cut = _count_cut(row, mask)
        if cut > width // 16:
            if not _settle_all(row, places, its_keys):
                return False
        elif cut:
            for i in range(width):
                if _bits(row[i]) & mask and not _settle_one(row, places, its_keys, i):
                    return False
    return True


@uncounted
def _settle_all(row: Floats, places: int, keys: Any) -> bool:
    """Every group of keys with the same upper bits."""
    shift, first = np.uint32(places), 0
    for rank in range(1, keys.size + 1):
        if rank == keys.size or keys[rank] >> shift != keys[first] >> shift:
            if rank - first > 1 and not _sort_group(row, places, keys[first:rank]):
                return False
            first = rank
    return True


@uncounted
def _settle_one(row: Floats, places: int, keys: Any, place: int) -> bool:
    """The group of keys that the entry at `place` belongs to."""
    shift = np.uint32(places)
    upper = np.uint32(_bits(row[place]) >> _left_out(places))
    first, stop = 0, keys.size
    while first < stop:
        middle = (first + stop) // 2
        if keys[middle] >> shift < upper:
            first = middle + 1
        else:
            stop = middle
    while stop < keys.size and keys[stop] >> shift == upper:
        stop += 1
    return bool(stop - first < 2 or _sort_group(row, places, keys[first:stop]))


@uncounted
def _sort_group(row: Floats, places: int, keys: Any) -> bool:
    """By whole magnitudes; keys come in the order of their places, and equal ones stay in it."""
    if keys.size > LONGEST_GROUP:
        return False
    mask = np.uint32((np.uint32(1) << np.uint32(places)) - np.uint32(1))
    for i in range(1, keys.size):
        key, hole = keys[i], i
        bits = _bits(row[key & mask])
        while hole > 0 and _bits(row[keys[hole - 1] & mask]) > bits:
            keys[hole] = keys[hole - 1]
            hole -= 1
        keys[hole] = key
    return True


@uncounted
def _spread_row(keys: Any, table: Floats, mask: Any, chances: Floats) -> None:
    for rank in range(table.size):
        chances[keys[rank] & mask] = table[rank]


@uncounted
def _spread_chances(keys: Any, table: Floats, mask: Any, chances: Floats) -> None:
    for lo in range(0, keys.size, table.size):
        _spread_row(keys[lo : lo + table.size], table, mask, chances[lo : lo + table.size])


@uncounted
def keep_below(draws: Floats, chances: Floats, rescale: bool, values: Floats) -> None:
    """In place: were input and output two arrays in the same memory, LLVM would not vectorise the loop."""
    one = np.float32(1)
    for i in range(values.size):
        x = values[i]
        divisor = chances[i] if rescale else one
        # x − x is 0, and NaN for what is not finite.
        values[i] = x / divisor if draws[i] < chances[i] else x - x
