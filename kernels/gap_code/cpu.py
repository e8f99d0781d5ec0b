"""Coding and decoding of a block in numba. Decoding believes nothing: every step is checked before it is taken."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.compiled import compiled, inlined, uncounted
from kernels.gap_code.words import word_at, zeros_below
from kernels.runs import put

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

BLOCK = 1 << 16
HEADER = 4
LARGEST_DIVISOR = BLOCK - 1
SPARE = 24
"""Zero bytes behind a block while it is decoded, so that a word may be read from any bit of it."""

SOUND, TOO_SHORT, NO_DIVISOR, RUNS_OUT, PASSES_END, WRONG_SIZE, LOOSE_BITS, TOO_MANY = range(8)
FAULTS = {
    TOO_SHORT: "a block is too short for the count it states",
    NO_DIVISOR: "a block states the divisor 0",
    RUNS_OUT: "the gaps of a block run out",
    PASSES_END: "a gap leads past the end of its block",
    WRONG_SIZE: "a block is longer than its gaps and signs",
    LOOSE_BITS: "bits are set that belong to no entry",
    TOO_MANY: "a block has another count than it states",
}
ONE, SEVEN = np.uint64(1), np.uint64(7)


@inlined
def _rest_bits(divisor: Any) -> Any:
    """⌈log₂ divisor⌉."""
    bits = 0
    while (1 << bits) < divisor:
        bits += 1
    return bits


@inlined
def _quotient(gap: Any, reciprocal: Any) -> Any:
    """gap // divisor, exact for both below 2¹⁶, from ⌈2³² / divisor⌉: several times as fast as a division."""
    return (gap * reciprocal) >> 32


@inlined
def _reciprocal(divisor: Any) -> Any:
    return ((1 << 32) + divisor - 1) // divisor


@uncounted
def _cost(gaps: NDArray[np.int64], divisor: Any) -> Any:
    """Bits that the gaps take."""
    bits = _rest_bits(divisor)
    shorter = (1 << bits) - divisor
    total, reciprocal = gaps.size * (1 + bits), _reciprocal(divisor)
    for i in range(gaps.size):
        quotient = _quotient(gaps[i], reciprocal)
        total += quotient - np.int64(gaps[i] - quotient * divisor < shorter)
    return total


@uncounted
def _best_for(share: Any) -> Any:
    """The least m with (1−p)^m + (1−p)^(m+1) ≤ 1: best for independent entries (Gallager and van Voorhis, 1975)."""
    rest = 1.0 - share
    divisor, power = 1, rest
    while power * (1.0 + rest) > 1.0 and divisor < LARGEST_DIVISOR:
        divisor += 1
        power *= rest
    return divisor


@uncounted
def _choose_divisor(gaps: NDArray[np.int64], elements: Any) -> Any:
    """The best of a few: entries that keep together want a smaller one than their share says."""
    usual = _best_for(gaps.size / elements)
    best, least = usual, _cost(gaps, usual)
    for other in (usual // 2, usual * 3 // 4, usual * 3 // 2):
        if 1 <= other <= LARGEST_DIVISOR:
            cost = _cost(gaps, other)
            if cost < least:
                best, least = other, cost
    return best


@uncounted
def _collect(positive: Words, negative: Words, gaps: NDArray[np.int64], signs: Bytes) -> Any:
    """Fill gaps and sign bits; the number of entries."""
    count, before = np.int64(0), np.int64(-1)
    for k in range(positive.size):
        word = positive[k] | negative[k]
        while word:
            bit = zeros_below(word)
            at = 64 * k + np.int64(bit)
            gaps[count] = at - before - 1
            sign = np.uint8((negative[k] >> bit) & ONE)
            signs[count >> 3] |= np.uint8(sign << np.uint8(count & 7))
            count, before = count + 1, at
            word &= word - ONE
    return count


@uncounted
def _write_gaps(gaps: NDArray[np.int64], divisor: Any, out: Bytes) -> Any:
    """The gaps as bits, the lowest first; `out` is zero. Returns the bytes used."""
    bits = _rest_bits(divisor)
    shorter, at, reciprocal = (1 << bits) - divisor, 0, _reciprocal(divisor)
    for i in range(gaps.size):
        quotient = _quotient(gaps[i], reciprocal)
        rest = gaps[i] - quotient * divisor
        at += quotient
        out[at >> 3] |= np.uint8(1 << (at & 7))
        at += 1
        length = bits - 1 if rest < shorter else bits
        # The bit that tells the long rests apart comes last.
        code = rest if rest < shorter else ((rest + shorter) >> 1) | (((rest + shorter) & 1) << (bits - 1))
        shifted = code << (at & 7)
        for k in range(3):
            out[(at >> 3) + k] |= np.uint8((shifted >> (8 * k)) & 255)
        at += length
    return (at + 7) >> 3


@compiled
def encode(positive: Words, negative: Words, elements: Any, out: Bytes) -> Any:
    """One block into `out`, which is zero; its bytes."""
    gaps, signs = np.empty(64 * positive.size, np.int64), np.zeros(8 * positive.size, np.uint8)
    count = _collect(positive, negative, gaps, signs)
    if count == 0:
        return 0
    divisor = _choose_divisor(gaps[:count], elements)
    for i, value in enumerate((count - 1, divisor)):
        out[2 * i], out[2 * i + 1] = np.uint8(value & 255), np.uint8(value >> 8)
    end = HEADER + _write_gaps(gaps[:count], divisor, out[HEADER:])
    sign_bytes = (count + 7) >> 3
    put(signs, out[end : end + sign_bytes])
    return end + sign_bytes


@inlined
def _set(planes: Any, sign: Any, at: Any) -> None:
    planes[sign, at >> 6] |= ONE << np.uint64(at & 63)


@uncounted
def _decode_bitmap(block: Bytes, count: Any, gap_bytes: Any, elements: int, signs: Any, planes: Words) -> int:
    """Divisor 1: each gap is as many zeros and a one, so the code is the map of the entries itself."""
    address, found = np.uint64(block.ctypes.data), 0
    for k in range((gap_bytes + 7) // 8):
        word = word_at(address + np.uint64(HEADER + 8 * k))
        if 8 * k + 8 > gap_bytes:
            word &= (ONE << np.uint64(8 * (gap_bytes - 8 * k))) - ONE
        negative, rest = np.uint64(0), word
        while rest:
            if found == count:
                return TOO_MANY
            low = rest & (~rest + ONE)
            if (block[signs + (found >> 3)] >> np.uint8(found & 7)) & np.uint8(1):
                negative |= low
            rest ^= low
            found += 1
        if word:
            if 64 * k + 63 - _leading(word) >= elements:
                return PASSES_END
            planes[0, k], planes[1, k] = word & ~negative, negative
    if found < count:
        return RUNS_OUT
    return SOUND if block[HEADER + gap_bytes - 1] else WRONG_SIZE


@inlined
def _leading(word: Any) -> Any:
    """Zero bits above the highest set one of a word that has one."""
    zeros = 0
    while not word >> np.uint64(63):
        word <<= ONE
        zeros += 1
    return zeros


@uncounted
def _decode_gaps(
    block: Bytes, count: Any, divisor: Any, gap_bytes: Any, elements: int, signs: Any, planes: Words
) -> int:
    bits = _rest_bits(divisor)
    shorter, low_bits = (1 << bits) - divisor, np.uint64(max(bits - 1, 0))
    low = (ONE << low_bits) - ONE
    address, end = np.uint64(block.ctypes.data) + np.uint64(HEADER), np.uint64(8 * gap_bytes)
    bit, at = np.uint64(0), np.int64(-1)
    for i in range(count):
        word = word_at(address + (bit >> np.uint64(3))) >> (bit & SEVEN)
        quotient = zeros_below(word)
        if quotient > np.uint64(32):
            quotient = np.uint64(0)
            while True:
                if bit >= end:
                    return RUNS_OUT
                zeros = min(zeros_below(word_at(address + (bit >> np.uint64(3))) >> (bit & SEVEN)), np.uint64(56))
                quotient, bit = quotient + zeros, bit + zeros
                if zeros < np.uint64(56):
                    break
            word = word_at(address + (bit >> np.uint64(3))) >> (bit & SEVEN)
            word >>= ONE
            bit += ONE
        else:
            word >>= quotient + ONE
            bit += quotient + ONE
        rest = np.int64(word & low)
        is_long = rest >= shorter
        rest = 2 * rest + np.int64((word >> low_bits) & ONE) - shorter if is_long else rest
        bit += low_bits + np.uint64(is_long)
        at += np.int64(quotient) * divisor + rest + 1
        if bit > end:
            return RUNS_OUT
        if at >= elements:
            return PASSES_END
        _set(planes, (block[signs + (i >> 3)] >> np.uint8(i & 7)) & np.uint8(1), at)
    if (bit + SEVEN) >> np.uint64(3) != np.uint64(gap_bytes):
        return WRONG_SIZE
    loose = bit & SEVEN
    return LOOSE_BITS if loose and block[HEADER + gap_bytes - 1] >> np.uint8(loose) else SOUND


@uncounted
def decode(block: Bytes, size: int, elements: int, planes: Words) -> int:
    """Fill the planes, zero before, from `size` bytes, behind which SPARE zero bytes lie; what is wrong."""
    if size == 0:
        return SOUND
    if size < HEADER:
        return TOO_SHORT
    count = 1 + np.int64(block[0]) + (np.int64(block[1]) << 8)
    divisor = np.int64(block[2]) + (np.int64(block[3]) << 8)
    signs = size - ((count + 7) >> 3)
    if signs <= HEADER or count > elements:
        return TOO_SHORT
    if divisor == 0:
        return NO_DIVISOR
    if (count & 7) and block[size - 1] >> np.uint8(count & 7):
        return LOOSE_BITS
    if divisor == 1:
        return _decode_bitmap(block, count, signs - HEADER, elements, signs, planes)
    return _decode_gaps(block, count, divisor, signs - HEADER, elements, signs, planes)
