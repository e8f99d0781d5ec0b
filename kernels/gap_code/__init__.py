"""Which entries of a ternary tensor are there, and their signs, near the entropy: Golomb codes of the gaps.

A block is 65,536 elements, the last one fewer, and decodes by itself. An empty block is no bytes; another is

    u16  count − 1      of the entries that are not 0
    u16  divisor m      from 1; both little-endian
    the gaps            bits, in each byte the lowest first; the last byte filled up with zeros
    the signs           one bit for each entry in order, 1 is −; the last byte filled up with zeros

A gap is the number of zeros before an entry: g = q·m + r is q zero bits, a one bit, and r in truncated binary:
with b = ⌈log₂ m⌉ and s = 2^b − m, r < s is b − 1 bits of r; else the upper b − 1 bits of r + s, then its lowest.
Within each group of bits the lowest comes first. Golomb, "Run-length encodings", 1966; the best m for entries that
are there independently is from Gallager and van Voorhis, 1975. numpy arrays only.
"""

import numpy as np
from numpy.typing import NDArray

from kernels.checks import check_array
from kernels.gap_code import cpu
from kernels.gap_code.cpu import BLOCK, SPARE
from kernels.ternary.planes import Planes, plane_bytes

__all__ = ["BLOCK", "MOST_BYTES", "Decoder", "encode", "entropy_bits"]

MOST_BYTES = cpu.HEADER + 2 * BLOCK // 8
"""No block takes more: a code of divisor 1 is a bit for each element, and each has at most one sign."""


def encode(planes: Planes, size: int) -> NDArray[np.uint8]:
    """The block of `size` ≤ BLOCK elements whose planes begin at bit 0 and have no bits behind them."""
    positive, negative, start = planes
    if not 0 < size <= BLOCK or start or positive.size != plane_bytes(size) or negative.size != positive.size:
        raise ValueError(f"planes: found {positive.size} bytes from {start}, expected those of {size} elements")
    # A coder's last step may touch two bytes behind what it writes.
    room = np.zeros(MOST_BYTES + SPARE, np.uint8)
    used = cpu.encode(positive.view(np.uint64), negative.view(np.uint64), size, room)
    return room[:used]


class Decoder:
    """Decodes blocks into planes of its own, which are valid until the next; for one thread."""

    def __init__(self) -> None:
        self._block = np.zeros(MOST_BYTES + SPARE, np.uint8)
        self._planes = np.zeros((2, plane_bytes(BLOCK)), np.uint8)

    def decode(self, block: NDArray[np.uint8], size: int) -> Planes | str:
        """The planes of `size` elements, or what is wrong with the block."""
        check_array("block", block, np.dtype(np.uint8), (None,))
        if block.size > MOST_BYTES:
            return "a block is longer than any can be"
        self._block[: block.size] = block
        self._block[block.size : block.size + SPARE] = 0
        planes = self._planes[:, : plane_bytes(size)]
        planes[:] = 0
        fault = cpu.decode(self._block, block.size, size, planes.view(np.uint64))
        return Planes(planes[0], planes[1]) if fault == cpu.SOUND else cpu.FAULTS[fault]


def entropy_bits(count: int, size: int) -> float:
    """The bound for independent entries and signs, with p = count/size: −size · [(1−p) log₂ (1−p) + p log₂ (p/2)]."""
    if count == 0:
        return 0.0
    share = count / size
    rest = 1.0 - share
    return -size * ((rest * float(np.log2(rest)) if rest else 0.0) + share * float(np.log2(share / 2)))
