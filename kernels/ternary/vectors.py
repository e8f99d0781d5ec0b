"""Sixty-four elements at a time: a word of each bitplane is a mask that picks one of three values in every lane.

LLVM turns the bits into mask registers where the machine has them, and into comparisons where it has none.
Every lane is one element and its own chain of IEEE additions. Addresses are those of arrays that the callers hold.
"""

from typing import Any

from llvmlite import ir
from numba import carray  # type: ignore[attr-defined]
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes
from kernels.compiled import inlined_counted

WORD = 64
BITS = ir.IntType(64)
MASK = ir.VectorType(ir.IntType(1), WORD)
FLOATS = ir.VectorType(lanes.FLOAT, WORD)


def _pointer(builder: Any, address: Any, index: Any, kind: Any, nbytes: int) -> Any:
    offset = builder.mul(index, ir.Constant(index.type, nbytes))
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


def _mask(builder: Any, address: Any, index: Any) -> Any:
    word = builder.load(_pointer(builder, address, index, BITS, 8), align=1)
    return builder.bitcast(word, MASK)


def _chosen(builder: Any, planes: tuple[Any, Any], values: tuple[Any, Any, Any], index: Any) -> Any:
    """values[0] where the first plane has a bit, values[1] where the second has one, values[2] elsewhere."""
    plus, minus, zero = (lanes.spread(builder, value, WORD) for value in values)
    below = builder.select(_mask(builder, planes[1], index), minus, zero)
    return builder.select(_mask(builder, planes[0], index), plus, below)


def _floats(builder: Any, address: Any, index: Any) -> Any:
    return _pointer(builder, address, index, FLOATS, 4 * WORD)


ADDRESSES = (types.uint64,) * 3
VALUES = (types.float32,) * 3


def _pick(_context: Any, out: Any, positive: Any, _n: Any, _words: Any, _plus: Any, _minus: Any, _zero: Any) -> Any:
    """out = chosen."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        with cgutils.for_range(builder, args[3]) as loop:
            chosen = _chosen(builder, args[1:3], args[4:7], loop.index)
            builder.store(chosen, _floats(builder, args[0], loop.index), align=4)
        return context.get_dummy_value()

    return types.none(*ADDRESSES, types.uint64, *VALUES), codegen


def _mark(_context: Any, values: Any, positive: Any, _negative: Any, _words: Any, _limit: Any) -> Any:
    """The planes of `values`: bits where a value is at least `limit`, and where it is at most −limit."""

    def codegen(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        limit = lanes.spread(builder, args[4], WORD)
        with cgutils.for_range(builder, args[3]) as loop:
            value = builder.load(_floats(builder, args[0], loop.index), align=4)
            for plane, is_set in (
                (args[1], builder.fcmp_ordered(">=", value, limit)),
                (args[2], builder.fcmp_ordered("<=", value, builder.fneg(limit))),
            ):
                target = _pointer(builder, plane, loop.index, BITS, 8)
                builder.store(builder.bitcast(is_set, BITS), target, align=1)
        return context.get_dummy_value()

    return types.none(*ADDRESSES, types.uint64, types.float32), codegen


pick: Any = intrinsic(_pick)
mark: Any = intrinsic(_mark)


def _typing(_context: Any, _address: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], BITS.as_pointer())

    return types.CPointer(types.uint64)(types.uint64), codegen  # type: ignore[no-untyped-call]


_to_words: Any = intrinsic(_typing)


@inlined_counted
def words_at(address: Any, count: Any) -> Any:
    """The words of a plane as an array."""
    return carray(_to_words(address), (count,))
