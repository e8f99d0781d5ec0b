"""The hashes of Xet: of a chunk, of a run of chunks (a xorb, a file), of a range; and how a hash is written as text.

The public specification's pages "Hashing" and "CAS API" define all of it.
"""

import re
from struct import Struct

from blake3 import blake3

CHUNK_KEY = bytes.fromhex("6697f5775b9550de3135cbaca597181c9de421109beb2b58b4d0b04b93adf229")
NODE_KEY = bytes.fromhex("017ec5c7a5472996fd946666b48a02e65ddd536f37c76dd2f86352e64a53713f")
RANGE_KEY = bytes.fromhex("7f1857d6ce56ed66127ff913e7a5c3f3a4cd26d5b5db49e64124987f28fb94c3")
FILE_KEY = bytes(32)

MOST_CHILDREN = 9
"""A node of the tree ends after its third child or a later one whose hash's last number is divisible by 4, or here."""
_NUMBERS = Struct("<4Q")
_BIG_NUMBERS = Struct(">4Q")
_TEXT = re.compile(r"[0-9a-f]{64}")

Node = tuple[bytes, int]
"""A hash, and how many bytes of data it stands for."""


def as_text(digest: bytes) -> str:
    """A hash as addresses have it: four little-endian numbers in hexadecimal."""
    return _BIG_NUMBERS.pack(*_NUMBERS.unpack(digest)).hex()


def is_text(value: str) -> bool:
    """True for a hash as addresses have it."""
    return _TEXT.fullmatch(value) is not None


def chunk_hash(data: bytes) -> bytes:
    """The hash of one chunk's bytes."""
    return blake3(data, key=CHUNK_KEY).digest()


class Tree:
    """The root of a run of chunks, which are told one by one: no more than a few nodes of each level are kept."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []

    def add(self, digest: bytes, length: int) -> None:
        """The next chunk's hash and length."""
        self._rise(0, (digest, length))

    def root(self) -> bytes:
        """The hash of all, as a xorb has it. Nothing can be added afterwards; without a chunk it is zeros."""
        for number, level in enumerate(self._levels):
            if level.count == 1:
                return level.open[0][0]
            if level.open:
                self._rise(number + 1, level.close())
        return bytes(32)

    def file_hash(self) -> bytes:
        """The hash of all, as a file has it."""
        root = self.root()
        return blake3(root, key=FILE_KEY).digest() if self._levels else root

    def _rise(self, number: int, node: Node) -> None:
        if number == len(self._levels):
            self._levels.append(_Level())
        level = self._levels[number]
        level.add(node)
        if level.is_full:
            self._rise(number + 1, level.close())


class _Level:
    """One level of the tree: the children of the node that is not complete yet."""

    def __init__(self) -> None:
        self.open: list[Node] = []
        self.count = 0

    def add(self, node: Node) -> None:
        self.open.append(node)
        self.count += 1

    @property
    def is_full(self) -> bool:
        if len(self.open) < 3:
            return False
        return len(self.open) == MOST_CHILDREN or _NUMBERS.unpack(self.open[-1][0])[3] % 4 == 0

    def close(self) -> Node:
        """The node of the children so far, which are forgotten."""
        lines = "".join(f"{as_text(digest)} : {length}\n" for digest, length in self.open)
        node = blake3(lines.encode(), key=NODE_KEY).digest(), sum(length for _, length in self.open)
        self.open.clear()
        return node


class RangeHash:
    """What proves in a shard that its sender knows the chunks of a range."""

    def __init__(self) -> None:
        self._hasher = blake3(key=RANGE_KEY)

    def add(self, digest: bytes) -> None:
        """The next chunk's hash."""
        self._hasher.update(digest)

    def digest(self) -> bytes:
        """The hash of the range."""
        return self._hasher.digest()
