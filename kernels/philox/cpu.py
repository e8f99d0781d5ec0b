"""Philox4x32-10 in numba: four elements a step, the first and last step cut to the run that is asked for."""

from typing import Any

import numpy as np

from kernels.checks import Floats
from kernels.compiled import compiled, inlined
from kernels.philox.stream import MULTIPLIERS, ROUNDS, WEYL

M0, M1 = np.uint64(MULTIPLIERS[0]), np.uint64(MULTIPLIERS[1])
W0, W1 = np.uint64(WEYL[0]), np.uint64(WEYL[1])
MASK, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
UNIT = np.float32(2.0**-24)


@inlined
def rounds(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    """Four words from counter and key, each a uint64 below 2^32: LLVM turns the products into 32×32→64 ones."""
    for _ in range(ROUNDS):
        left, right = c0 * M0, c2 * M1
        c0, c1, c2, c3 = (right >> HALF) ^ c1 ^ k0, right & MASK, (left >> HALF) ^ c3 ^ k1, left & MASK
        k0, k1 = (k0 + W0) & MASK, (k1 + W1) & MASK
    return c0, c1, c2, c3


@inlined
def _unit(word: Any) -> Any:
    return np.float32(np.int32(word >> np.uint64(8))) * UNIT


@inlined
def _words(block: Any, stream: Any) -> Any:
    high = (block >> HALF) | (stream[4] << np.uint64(16))
    return rounds(block & MASK, high, stream[2], stream[3], stream[0], stream[1])


@compiled
def _whole_blocks(first: Any, stream: Any, out: Floats) -> None:
    for i in range(out.size // 4):
        a, b, c, d = _words(first + np.uint64(i), stream)
        out[4 * i] = _unit(a)
        out[4 * i + 1] = _unit(b)
        out[4 * i + 2] = _unit(c)
        out[4 * i + 3] = _unit(d)


@compiled
def uniform(stream: Any, start: int, out: Floats) -> None:
    """The run's ragged ends are drawn as whole blocks into `edge`, and only their part of it is kept."""
    edge = np.empty(4, np.float32)
    lo = min(-start % 4, out.size)
    if lo:
        _whole_blocks(np.uint64(start // 4), stream, edge)
        out[:lo] = edge[start % 4 : start % 4 + lo]
    hi = lo + (out.size - lo) // 4 * 4
    _whole_blocks(np.uint64((start + lo) // 4), stream, out[lo:hi])
    if hi < out.size:
        _whole_blocks(np.uint64((start + hi) // 4), stream, edge)
        out[hi:] = edge[: out.size - hi]
