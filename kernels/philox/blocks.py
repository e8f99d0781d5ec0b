"""Philox4x32-10 for BLOCKS blocks at once, and what is done with their words while they are in registers.

A block's ten rounds wait for each other; many blocks side by side hide that: 0.21 ns a draw where eight blocks take
0.32. A word lies in the lower half of 64 bits and what a product leaves above it is never looked at, so that a product
is one instruction and needs no masking. numba's disk cache watches a kernel's own file only: after a change here,
remove `kernels/**/__pycache__`.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from kernels import lanes
from kernels.compiled import compiled
from kernels.philox.stream import MULTIPLIERS, ROUNDS, WEYL

BLOCKS = 32
DRAWS = 4 * BLOCKS
"""Elements of a step."""

WORD = ir.IntType(64)
WORDS = ir.VectorType(WORD, BLOCKS)
BITS = ir.VectorType(ir.IntType(32), DRAWS)
MASK = 0xFFFFFFFF

Consume = Callable[[Any, Any], None]


@compiled
def cut(start: int, size: int) -> Any:
    """Where whole steps begin and end in a run of elements: only a block's first element begins one."""
    lo = min(DRAWS - start % 4, size) if start % 4 else 0
    return lo, lo + (size - lo) // DRAWS * DRAWS


def for_each_step(context: Any, builder: Any, signature: Any, args: Any, consume: Consume) -> None:
    """Have `consume` use the draws of DRAWS elements and the index of the first, for each whole step of an array.

    A draw is the upper 24 bits of its word, as an integer. The first of `args` are the words of a `Stream`, uint64
    each, the block that the array begins with, and the array.
    """
    own = lanes.address(context, builder, signature.args[0], args[0], WORD(0))
    key_low, key_high, *rest = (builder.load(builder.gep(own, [WORD(i)])) for i in range(5))
    keys = _keys(builder, key_low, key_high)
    size = lanes.length(context, builder, signature.args[2], args[2])
    with cgutils.for_range(builder, builder.udiv(size, WORD(DRAWS))) as loop:
        block = builder.add(args[1], builder.mul(loop.index, WORD(BLOCKS)))
        words = _in_order(builder, _rounds(builder, _counter(builder, block, *rest), keys))
        draws = builder.lshr(words, ir.Constant(BITS, [8] * DRAWS))
        consume(draws, builder.mul(loop.index, WORD(DRAWS)))


def _all(number: int) -> Any:
    return ir.Constant(WORDS, [number] * BLOCKS)


def _keys(builder: Any, low: Any, high: Any) -> list[tuple[Any, Any]]:
    """The two words of each round's key, in every lane."""

    def of_round(i: int, key: Any, step: int) -> Any:
        return lanes.everywhere(builder, builder.add(key, WORD(i * step)), WORDS)

    return [(of_round(i, low, WEYL[0]), of_round(i, high, WEYL[1])) for i in range(ROUNDS)]


def _counter(builder: Any, block: Any, name_low: Any, name_high: Any, ingredient: Any) -> list[Any]:
    blocks = builder.add(lanes.everywhere(builder, block, WORDS), ir.Constant(WORDS, list(range(BLOCKS))))
    own = lanes.everywhere(builder, builder.shl(ingredient, WORD(16)), WORDS)
    names = [lanes.everywhere(builder, name, WORDS) for name in (name_low, name_high)]
    return [blocks, builder.or_(builder.lshr(blocks, _all(32)), own), *names]


def _rounds(builder: Any, counter: list[Any], keys: list[tuple[Any, Any]]) -> list[Any]:
    c0, c1, c2, c3 = counter
    for k0, k1 in keys:
        left, right = (_product(builder, c, by) for c, by in zip((c0, c2), MULTIPLIERS, strict=True))
        c0 = builder.xor(builder.lshr(right, _all(32)), builder.xor(c1, k0))
        c2 = builder.xor(builder.lshr(left, _all(32)), builder.xor(c3, k1))
        c1, c3 = right, left
    return [c0, c1, c2, c3]


def _product(builder: Any, word: Any, by: int) -> Any:
    """LLVM sees 32×32→64 bits, whose instruction does the masking."""
    return builder.mul(builder.and_(word, _all(MASK)), _all(by))


def _in_order(builder: Any, words: list[Any]) -> Any:
    """The lower halves, uint32, element by element."""
    a, b, c, d = words
    ab, cd = (builder.or_(builder.and_(x, _all(MASK)), builder.shl(y, _all(32))) for x, y in ((a, b), (c, d)))
    order = [place for block in range(BLOCKS) for place in (block, block + BLOCKS)]
    return builder.bitcast(lanes.pick(builder, ab, cd, order), BITS)
