"""How a seed, a tensor's name and an ingredient become Philox's key and counter."""

from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

ROUNDS = 10
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)

LARGEST_SEED = (1 << 64) - 1
MOST_INGREDIENTS = 1 << 16
MOST_ELEMENTS = 1 << 50


class Stream(NamedTuple):
    """32-bit words of the key (the seed) and the counter (the name's hash), and the 16-bit ingredient.

    The counter of element e is (block, block >> 32 | ingredient << 16, name_low, name_high) with block = e // 4;
    the element takes word e % 4.
    """

    key_low: int
    key_high: int
    name_low: int
    name_high: int
    ingredient: int


@lru_cache(maxsize=4096)
def stream_of(seed: int, name: str, ingredient: int) -> Stream:
    """Distinct for each seed and ingredient, and for each name up to a collision of 64-bit blake2b."""
    _check("seed", seed, LARGEST_SEED)
    _check("ingredient", ingredient, MOST_INGREDIENTS - 1)
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    low, high = (int.from_bytes(part, "little") for part in (digest[:4], digest[4:]))
    return Stream(seed & 0xFFFFFFFF, seed >> 32, low, high, ingredient)


def _check(field: str, value: int, largest: int) -> None:
    if not 0 <= value <= largest:
        raise ValueError(f"{field}: found {value}, expected 0 to {largest}")
