"""Bitplanes in numba: stretches of 2048 elements, whose sums and votes stay in registers while the experts go by.

A plane is given by its address and its length in words of 64 bits. Where a run of elements begins within a word,
the words of a stretch are shifted into a few of our own first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined, inlined_counted, uncounted
from kernels.runs import put
from kernels.stored_elements import BFLOAT16, load, save
from kernels.ternary.elections import BALLOT, SHARE, VALUE, mean_bfloat16, mean_float32, sum_bfloat16, sum_float32
from kernels.ternary.elections import ENTRY as ELECTION_ENTRY
from kernels.ternary.sums import (
    BLOCK,
    ENTRY,
    add_bfloat16,
    add_float32,
    add_weights_bfloat16,
    add_weights_float32,
)
from kernels.ternary.vectors import WORD, mark, pick, words_at

STRETCH = 2048
WORDS = STRETCH // WORD
ZERO, ONE = np.float32(0), np.float32(1)

Table = NDArray[np.uint64]
"""For each expert the addresses of both planes, the words they have, and the element within them to begin at."""


@inlined_counted
def _bits_from(address: Any, length: Any, start: Any, count: Any, own: Any) -> Any:
    """The address of `count` words that begin at bit `start`: the plane's own, or shifted into `own`."""
    first, shift = start // WORD, start % WORD
    if shift == 0:
        return np.uint64(address + np.uint64(8 * first))
    plane = words_at(address, length)
    for i in range(count):
        low = plane[first + i] >> np.uint64(shift)
        # The last word has no successor.
        high = plane[first + i + 1] << np.uint64(WORD - shift) if first + i + 1 < length else np.uint64(0)
        own[i] = low | high
    return np.uint64(own.ctypes.data)


@inlined_counted
def _planes(expert: Any, at: Any, count: Any, own: Any) -> Any:
    length, start = np.int64(expert[2]), np.int64(expert[3]) + at
    return (
        _bits_from(expert[0], length, start, count, own[0]),
        _bits_from(expert[1], length, start, count, own[1]),
    )


@compiled
def unpack(table: Table, value: Any, out: Floats) -> None:
    own, part = np.empty((2, WORDS), np.uint64), np.empty(STRETCH, np.float32)
    for at in range(0, out.size, STRETCH):
        length = min(STRETCH, out.size - at)
        words = (length + WORD - 1) // WORD
        planes = _planes(table[0], at, words, own)
        pick(np.uint64(part.ctypes.data), planes[0], planes[1], np.uint64(words), value, ZERO - value, ZERO)
        put(part, out[at : at + length])


@compiled
def pack(values: Floats, limit: Any, planes: NDArray[np.uint64]) -> None:
    """Bits where |value| ≥ limit, at which sign; `planes` [2, words] has room for the last word's rest."""
    whole = values.size // WORD
    addresses = np.uint64(values.ctypes.data), np.uint64(planes[0].ctypes.data), np.uint64(planes[1].ctypes.data)
    mark(addresses[0], addresses[1], addresses[2], np.uint64(whole), limit)
    if whole * WORD < values.size:
        rest = np.zeros(WORD, np.float32)
        put(values[whole * WORD :], rest[: values.size - whole * WORD])
        last = np.uint64(8 * whole)
        mark(np.uint64(rest.ctypes.data), addresses[1] + last, addresses[2] + last, np.uint64(1), limit)


@uncounted
def trim(values: Floats, magnitude: Any, ties: Any, value: Any, out: Floats) -> None:
    """±value where |x| > magnitude, or |x| == magnitude among the first `ties` elements; else 0."""
    for i in range(out.size):
        x = values[i]
        size = abs(x)
        kept = (size > magnitude) | ((size == magnitude) & (i < ties) & (size > ZERO))
        out[i] = (value if x > ZERO else -value) if kept else ZERO


@uncounted
def count(table: Table, out: Integers) -> None:
    """Bits of the first plane, of the second, and of both at once."""
    positive, negative = words_at(table[0], table[2]), words_at(table[1], table[2])
    for i in range(positive.size):
        p, n = positive[i], negative[i]
        out[0] += _ones(p)
        out[1] += _ones(n)
        out[2] += _ones(p & n)


@inlined
def _ones(word: Any) -> Any:
    """Set bits, added up in pairs, fours and bytes; LLVM knows the idiom."""
    x = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@inlined
def _whole_planes(table: Any, at: Any, words: Any, own: Any, places: Any) -> None:
    """Where the planes of a run of whole words are: in the file, or in `own` where they begin within a word."""
    for expert in range(places.shape[0]):
        planes = _planes(table[expert], at, words, own[expert])
        places[expert, 0], places[expert, 1] = planes[0], planes[1]


@inlined_counted
def _padded_planes(table: Any, at: Any, count: Any, own: Any, places: Any) -> None:
    """The planes of fewer elements than a block has, with room behind them to read."""
    words = (count + WORD - 1) // WORD
    for expert in range(places.shape[0]):
        planes = _planes(table[expert], at, words, own[expert])
        for sign in range(2):
            row = own[expert, sign]
            put(words_at(planes[sign], words), row[:words])
            places[expert, sign] = np.uint64(row.ctypes.data)


@inlined_counted
def _entries(values: Any, coefficients: Any, is_delta: Any) -> Any:
    """What +, − and 0 add of each expert, and what they are to be multiplied by."""
    entries = np.empty((values.size, ENTRY), np.float32)
    for expert in range(values.size):
        weight = coefficients[expert] if is_delta else ONE
        value = values[expert]
        entries[expert, 0], entries[expert, 1] = weight * value, weight * (ZERO - value)  # 0.0 − 0.0 is no −0.0
        entries[expert, 2] = weight * ZERO
        entries[expert, 3] = coefficients[expert]
    return entries


@inlined
def _sum_rows(places: Any, entries: Any, row: Any, scale: Any, is_delta: Any) -> None:
    """Base elements that become those of the result."""
    address, blocks = np.uint64(row.ctypes.data), row.size // BLOCK
    if is_delta:
        add_float32(places, entries, address, address, scale, blocks)
    else:
        add_weights_float32(places, entries, address, address, scale, blocks)


@inlined
def _sum_bfloat16(places: Any, entries: Any, base: Any, out: Any, scale: Any, blocks: Any, is_delta: Any) -> None:
    if is_delta:
        add_bfloat16(places, entries, np.uint64(base), np.uint64(out), scale, blocks)
    else:
        add_weights_bfloat16(places, entries, np.uint64(base), np.uint64(out), scale, blocks)


@compiled
def signed_sum(
    table: Table,
    values: Floats,
    coefficients: Floats,
    base: Any,
    base_kind: Any,
    scale: Any,
    is_delta: bool,
    out: Any,
    out_kind: Any,
    size: int,
) -> None:
    """A stretch of the sum at a time, put on the base; `is_delta` says which of the two sums it is."""
    own, places = np.empty((values.size, 2, WORDS), np.uint64), np.empty((values.size, 2), np.uint64)
    entries, row = _entries(values, coefficients, is_delta), np.zeros(STRETCH, np.float32)
    is_bfloat16, whole = base_kind == BFLOAT16 and out_kind == BFLOAT16, size // BLOCK * BLOCK
    for at in range(0, whole, STRETCH):
        length = min(STRETCH, whole - at)
        _whole_planes(table, at, length // WORD, own, places)
        if is_bfloat16:
            _sum_bfloat16(places, entries, base + 2 * at, out + 2 * at, scale, length // BLOCK, is_delta)
        else:
            load(base, base_kind, at, row[:length])
            _sum_rows(places, entries, row[:length], scale, is_delta)
            save(row[:length], out, out_kind, at)
    if whole < size:
        rest = row[: size - whole]
        load(base, base_kind, whole, rest)
        _padded_planes(table, whole, rest.size, own, places)
        _sum_rows(places, entries, row[:BLOCK], scale, is_delta)
        save(rest, out, out_kind, whole)


@inlined
def _ballot(weight: Any, value: Any, elect: Any) -> Any:
    """What + counts in the vote: w·s, s, or one."""
    if elect == 0:
        return weight * value
    return value if elect == 1 or value == ZERO else ONE


@inlined_counted
def _candidates(table: Any, values: Any, weights: Any, how: Any, elect: Any) -> Any:
    """The planes with those first that vote for +, and what each expert's entries count. No ballot, no part in it."""
    ordered, entries = table.copy(), np.zeros((values.size, ELECTION_ENTRY), np.float32)
    for expert in range(values.size):
        weight, ballot = weights[expert], _ballot(weights[expert], values[expert], elect)
        value = weight * values[expert]
        entries[expert, BALLOT] = abs(ballot)
        if ballot < ZERO:
            ordered[expert, 0], ordered[expert, 1] = table[expert, 1], table[expert, 0]
            value = -value
        if ballot != ZERO and ballot == ballot:
            entries[expert, VALUE], entries[expert, SHARE] = value, abs(weight) if how == 0 else ONE
    return ordered, entries


@inlined
def _elect_rows(places: Any, entries: Any, row: Any, sign: Any, scale: Any, divides: Any) -> None:
    """Base elements that become those of the result."""
    address, blocks = np.uint64(row.ctypes.data), row.size // BLOCK
    if divides:
        mean_float32(places, entries, sign, address, address, scale, blocks)
    else:
        sum_float32(places, entries, sign, address, address, scale, blocks)


@inlined
def _elect_bfloat16(
    places: Any, entries: Any, base: Any, out: Any, sign: Any, scale: Any, blocks: Any, divides: Any
) -> None:
    if divides:
        mean_bfloat16(places, entries, sign, np.uint64(base), np.uint64(out), scale, blocks)
    else:
        sum_bfloat16(places, entries, sign, np.uint64(base), np.uint64(out), scale, blocks)


@compiled
def signed_election(
    table: Table,
    values: Floats,
    weights: Floats,
    how: int,
    elect: int,
    zero_vote_sign: Any,
    base: Any,
    base_kind: Any,
    scale: Any,
    out: Any,
    out_kind: Any,
    size: int,
) -> None:
    """Votes, signs and the merge of a stretch at a time, put on the base."""
    own, places = np.empty((values.size, 2, WORDS), np.uint64), np.empty((values.size, 2), np.uint64)
    ordered, entries = _candidates(table, values, weights, how, elect)
    row, divides = np.zeros(STRETCH, np.float32), how < 2
    is_bfloat16, whole = base_kind == BFLOAT16 and out_kind == BFLOAT16, size // BLOCK * BLOCK
    for at in range(0, whole, STRETCH):
        length = min(STRETCH, whole - at)
        _whole_planes(ordered, at, length // WORD, own, places)
        if is_bfloat16:
            here = base + 2 * at, out + 2 * at
            _elect_bfloat16(places, entries, *here, zero_vote_sign, scale, length // BLOCK, divides)
        else:
            load(base, base_kind, at, row[:length])
            _elect_rows(places, entries, row[:length], zero_vote_sign, scale, divides)
            save(row[:length], out, out_kind, at)
    if whole < size:
        rest = row[: size - whole]
        load(base, base_kind, whole, rest)
        _padded_planes(ordered, whole, rest.size, own, places)
        _elect_rows(places, entries, row[:BLOCK], zero_vote_sign, scale, divides)
        save(rest, out, out_kind, whole)
