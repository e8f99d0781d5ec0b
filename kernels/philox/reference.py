"""Philox4x32-10 in plain torch: the definition. int64 stands in for the unsigned types torch lacks arithmetic for."""

import torch
from torch import Tensor

from kernels.philox.stream import MULTIPLIERS, ROUNDS, WEYL, Stream, stream_of

MASK = 0xFFFFFFFF


def uniform(seed: int, stream: str, ingredient: int, start: int, out: Tensor) -> Tensor:
    index = torch.arange(start, start + out.numel(), dtype=torch.int64, device=out.device)
    words = philox(index >> 2, stream_of(seed, stream, ingredient))
    word = torch.gather(torch.stack(words), 0, (index & 3)[None])[0]
    return out.copy_((word >> 8).to(torch.float32) * 2.0**-24)


def philox(block: Tensor, stream: Stream) -> list[Tensor]:
    """The four words of each block."""
    high = (block >> 32) | (stream.ingredient << 16)
    counter = [block & MASK, high, *(torch.full_like(block, word) for word in (stream.name_low, stream.name_high))]
    return rounds(counter, [stream.key_low, stream.key_high])


def rounds(counter: list[Tensor], key: list[int]) -> list[Tensor]:
    """Salmon et al. 2011, section 4.3; a product that overflows int64 still has the right 64 bits."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        left, right = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c1, c2, c3 = (right >> 32 & MASK) ^ c1 ^ k0, right & MASK, (left >> 32 & MASK) ^ c3 ^ k1, left & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return [c0, c1, c2, c3]
