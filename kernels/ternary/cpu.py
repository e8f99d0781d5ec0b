"""Bitplanes in numba: stretches of 2048 elements, whose sums stay in the L1 cache while the experts go by.

A plane is given by its address and its length in words of 64 bits. Where a run of elements begins within a word,
the words of a stretch are shifted into a few of our own first.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.bits import float_of_bits
from kernels.checks import Floats, Integers
from kernels.compiled import compiled, inlined
from kernels.stored_elements import BFLOAT16, load, save
from kernels.ternary.sums import (
    BLOCK,
    ENTRY,
    add_bfloat16,
    add_float32,
    add_weights_bfloat16,
    add_weights_float32,
)
from kernels.ternary.vectors import WORD, add, mark, pick, words_at

STRETCH = 2048
WORDS = STRETCH // WORD
ZERO, ONE = np.float32(0), np.float32(1)

Table = NDArray[np.uint64]
"""For each expert the addresses of both planes, the words they have, and the element within them to begin at."""


@inlined
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


@inlined
def _planes(expert: Any, at: Any, count: Any, own: Any) -> Any:
    length, start = np.int64(expert[2]), np.int64(expert[3]) + at
    return (
        _bits_from(expert[0], length, start, count, own[0]),
        _bits_from(expert[1], length, start, count, own[1]),
    )


@inlined
def _put(out: Any, planes: Any, words: Any, plus: Any, zero: Any, is_first: Any) -> None:
    address = np.uint64(out.ctypes.data)
    if is_first:
        pick(address, planes[0], planes[1], np.uint64(words), plus, -plus, zero)
    else:
        add(address, planes[0], planes[1], np.uint64(words), plus, -plus, zero)


@compiled
def unpack(table: Table, value: Any, out: Floats) -> None:
    own, part = np.empty((2, WORDS), np.uint64), np.empty(STRETCH, np.float32)
    for at in range(0, out.size, STRETCH):
        length = min(STRETCH, out.size - at)
        words = (length + WORD - 1) // WORD
        _put(part, _planes(table[0], at, words, own), words, value, ZERO, True)
        out[at : at + length] = part[:length]


@compiled
def pack(values: Floats, limit: Any, planes: NDArray[np.uint64]) -> None:
    """Bits where |value| ≥ limit, at which sign; `planes` [2, words] has room for the last word's rest."""
    whole = values.size // WORD
    addresses = np.uint64(values.ctypes.data), np.uint64(planes[0].ctypes.data), np.uint64(planes[1].ctypes.data)
    mark(addresses[0], addresses[1], addresses[2], np.uint64(whole), limit)
    if whole * WORD < values.size:
        rest = np.zeros(WORD, np.float32)
        rest[: values.size - whole * WORD] = values[whole * WORD :]
        last = np.uint64(8 * whole)
        mark(np.uint64(rest.ctypes.data), addresses[1] + last, addresses[2] + last, np.uint64(1), limit)


@compiled
def trim(values: Floats, magnitude: Any, ties: Any, value: Any, out: Floats) -> None:
    """±value where |x| > magnitude, or |x| == magnitude among the first `ties` elements; else 0."""
    for i in range(out.size):
        x = values[i]
        size = abs(x)
        kept = (size > magnitude) | ((size == magnitude) & (i < ties) & (size > ZERO))
        out[i] = (value if x > ZERO else -value) if kept else ZERO


@compiled
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


@inlined
def _padded_planes(table: Any, at: Any, count: Any, own: Any, places: Any) -> None:
    """The planes of fewer elements than a block has, with room behind them to read."""
    words = (count + WORD - 1) // WORD
    for expert in range(places.shape[0]):
        planes = _planes(table[expert], at, words, own[expert])
        for sign in range(2):
            row = own[expert, sign]
            row[:words] = words_at(planes[sign], words)
            places[expert, sign] = np.uint64(row.ctypes.data)


@inlined
def _entries(values: Any, coefficients: Any, is_delta: Any) -> Any:
    """What +, − and 0 add of each expert, and what they are to be multiplied by."""
    entries = np.empty((values.size, ENTRY), np.float32)
    for expert in range(values.size):
        weight = coefficients[expert] if is_delta else ONE
        plus = weight * values[expert]
        entries[expert, 0], entries[expert, 1], entries[expert, 2] = plus, -plus, weight * ZERO
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
def _elected(votes: Any, zero_vote_sign: Any, signs: Any, words: Any) -> None:
    """Bits of the elements that elect +, and of those that elect −."""
    up, down = signs[0], signs[1]
    least = float_of_bits(np.uint32(1))
    addresses = np.uint64(votes.ctypes.data), np.uint64(up.ctypes.data), np.uint64(down.ctypes.data)
    mark(addresses[0], addresses[1], addresses[2], np.uint64(words), least)
    for i in range(words):
        p, n = up[i], down[i]
        up[i] = ~n if zero_vote_sign > 0 else p
        down[i] = ~p if zero_vote_sign < 0 else n


@inlined
def _agreeing(planes: Any, ballot: Any, signs: Any, words: Any, own: Any) -> Any:
    """The planes of the entries whose vote has the elected sign; a ballot below 0 votes against its entry."""
    positive, negative = words_at(planes[0], words), words_at(planes[1], words)
    votes_with = ~np.uint64(0) if ballot > ZERO else np.uint64(0)
    votes_against = ~np.uint64(0) if ballot < ZERO else np.uint64(0)
    for i in range(words):
        up, down = signs[0, i], signs[1, i]
        own[0, i] = positive[i] & ((up & votes_with) | (down & votes_against))
        own[1, i] = negative[i] & ((down & votes_with) | (up & votes_against))
    return np.uint64(own[0].ctypes.data), np.uint64(own[1].ctypes.data)


@inlined
def _ballot(weight: Any, value: Any, elect: Any) -> Any:
    """What + counts in the vote: w·s, s, or one."""
    if elect == 0:
        return weight * value
    return value if elect == 1 or value == ZERO else ONE


@inlined
def _vote(table: Any, values: Any, weights: Any, elect: Any, at: Any, words: Any, own: Any, votes: Any) -> None:
    votes[:] = ZERO
    for expert in range(weights.size):
        ballot = _ballot(weights[expert], values[expert], elect)
        _put(votes, _planes(table[expert], at, words, own), words, ballot, ZERO, False)


@inlined
def _merge(
    table: Any, values: Any, weights: Any, how: Any, elect: Any, at: Any, words: Any, scratch: Any, rows: Any
) -> None:
    own, kept, signs = scratch[0], scratch[1], scratch[2]
    total, shares = rows[0], rows[1]
    total[:] = ZERO
    shares[:] = ZERO
    for expert in range(weights.size):
        weight, ballot = weights[expert], _ballot(weights[expert], values[expert], elect)
        agreeing = _agreeing(_planes(table[expert], at, words, own), ballot, signs, words, kept)
        _put(total, agreeing, words, weight * values[expert], ZERO, False)
        share = abs(weight) if how == 0 else ONE
        add(np.uint64(shares.ctypes.data), agreeing[0], agreeing[1], np.uint64(words), share, share, ZERO)


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
    scratch, rows = np.empty((3, 2, WORDS), np.uint64), np.empty((4, STRETCH), np.float32)
    total, shares, votes, widened = rows[0], rows[1], rows[2], rows[3]
    for at in range(0, size, STRETCH):
        length = min(STRETCH, size - at)
        words = (length + WORD - 1) // WORD
        load(base, base_kind, at, widened[:length])
        _vote(table, values, weights, elect, at, words, scratch[0], votes)
        _elected(votes, zero_vote_sign, scratch[2], words)
        _merge(table, values, weights, how, elect, at, words, scratch, rows)
        for i in range(length):
            merged = total[i]
            if how < 2:
                merged = merged / shares[i] if shares[i] > ZERO else ZERO
            total[i] = widened[i] + scale * merged
        save(total[:length], out, out_kind, at)
