"""The code of gaps, spelled out bit by bit: the definition."""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 65536


def encode(ternary: Tensor, divisor: int) -> bytes:
    """The block of −1, 0 and +1, with this divisor."""
    places = torch.nonzero(ternary).flatten().tolist()
    if not places:
        return b""
    gaps = [place - before - 1 for before, place in zip([-1, *places], places, strict=False)]
    bits = [bit for gap in gaps for bit in _golomb(gap, divisor)]
    signs = [int(ternary[place] < 0) for place in places]
    header = (len(places) - 1).to_bytes(2, "little") + divisor.to_bytes(2, "little")
    return header + _packed(bits) + _packed(signs)


def decode(block: bytes, size: int) -> Tensor:
    """−1, 0 and +1 of a sound block."""
    ternary = torch.zeros(size)
    if not block:
        return ternary
    count, divisor = 1 + int.from_bytes(block[:2], "little"), int.from_bytes(block[2:4], "little")
    bits, signs = _bits(block[4:]), _bits(block[len(block) - -(-count // 8) :])
    place = -1
    for _ in range(count):
        place += 1 + _gap(bits, divisor)
        ternary[place] = -1.0 if next(signs) else 1.0
    return ternary


def _golomb(gap: int, divisor: int) -> list[int]:
    quotient, rest = divmod(gap, divisor)
    length = (divisor - 1).bit_length()
    shorter = 2**length - divisor
    if rest < shorter:
        return [0] * quotient + [1] + _low_bits(rest, length - 1)
    code = rest + shorter
    return [0] * quotient + [1] + ([*_low_bits(code >> 1, length - 1), code & 1] if length else [])


def _gap(bits: Iterator[int], divisor: int) -> int:
    quotient = 0
    while next(bits) == 0:
        quotient += 1
    length = (divisor - 1).bit_length()
    shorter = 2**length - divisor
    rest = sum(next(bits) << place for place in range(length - 1))
    if length and rest >= shorter:
        rest = 2 * rest + next(bits) - shorter
    return quotient * divisor + rest


def _low_bits(value: int, length: int) -> list[int]:
    return [(value >> place) & 1 for place in range(length)]


def _packed(bits: list[int]) -> bytes:
    padded = [*bits, *[0] * (-len(bits) % 8)]
    return bytes(sum(bit << place for place, bit in enumerate(padded[i : i + 8])) for i in range(0, len(padded), 8))


def _bits(packed: bytes) -> Iterator[int]:
    return ((byte >> place) & 1 for byte in packed for place in range(8))
