"""A short run of every target without coverage: sound inputs, cut and bent ones, and what was found before."""

from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.targets import TARGETS

ROUNDS = 300
EDGES = (0, 1, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)
FOUND = Path(__file__).parent / "found"
"""FOUND/TARGET/*: inputs that once did harm."""


def bent(seed: bytes, other: bytes, random: np.random.Generator) -> bytes:
    """The seed with a few changes of the kinds that files suffer, or are made to."""
    data = bytearray(seed)
    for _ in range(random.integers(1, 4)):
        at, length = int(random.integers(0, len(data) + 1)), int(random.integers(1, 9))
        change = random.integers(0, 6)
        if change == 0:
            del data[at:]
        elif change == 1:
            data[at : at + length] = random.bytes(length)
        elif change == 2:
            data[at : at + length] = EDGES[int(random.integers(0, len(EDGES)))].to_bytes(8, "little")
        elif change == 3:
            del data[at : at + length]
        elif change == 4:
            data[at:at] = other[at : at + 8 * length]
        elif data:
            data[at % len(data)] ^= 1 << int(random.integers(0, 8))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_bent_inputs_are_read_or_refused_cleanly(name: str, tmp_path: Path) -> None:
    target, random = TARGETS[name], np.random.default_rng(0)
    seeds = target.seeds()
    for seed in seeds:
        target.run(seed, tmp_path)
    for _ in range(ROUNDS):
        one, other = (seeds[int(random.integers(0, len(seeds)))] for _ in range(2))
        target.run(bent(one, other, random), tmp_path)


def test_what_was_found_before_does_no_harm_again(tmp_path: Path) -> None:
    for path in sorted(FOUND.glob("*/*")):
        TARGETS[path.parent.name].run(path.read_bytes(), tmp_path)
