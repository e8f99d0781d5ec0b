"""Vector instructions inside compiled kernels, for the loops LLVM will not vectorise by itself.

LLVM may not reorder a float sum and gives up on loops over many arrays. Here each lane is one element or
one IEEE addition chain, so the bits do not depend on how wide the machine's registers are.
"""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

FLOAT = ir.FloatType()
AHEAD = 1024
"""Bytes from what is read to what is asked for: half a microsecond's reading. Up to 8192 is as good, 512 is not."""


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """A pointer to element `index` of a C-contiguous array, counted flat."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def length(context: Any, builder: Any, kind: Any, array: Any) -> Any:
    """How many elements an array of one dimension has."""
    return builder.extract_value(context.make_array(kind)(context, builder, array).shape, 0)


def load(builder: Any, pointer: Any, lanes: int) -> Any:
    """`lanes` consecutive float32, at any float32's alignment."""
    vector = ir.VectorType(FLOAT, lanes)
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)


def store(builder: Any, value: Any, pointer: Any, align: int) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=align)


def fetch_ahead(builder: Any, pointer: Any) -> None:
    """Have the cache line fetched that lies AHEAD of a place being read; where nothing is mapped, nothing happens."""
    number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
    fetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")  # type: ignore[no-untyped-call]
    place = builder.gep(pointer, [ir.Constant(ir.IntType(64), AHEAD)])
    builder.call(fetch, [place, number(0), number(3), number(1)])


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """One float32 in every lane."""
    return everywhere(builder, value, ir.VectorType(FLOAT, lanes))


def variable(builder: Any, kind: Any, lanes: int) -> Any:
    """A local vector that starts at 0.0; LLVM keeps it in registers."""
    zeros = ir.Constant(ir.VectorType(kind, lanes), [0.0] * lanes)
    return cgutils.alloca_once_value(builder, zeros)  # type: ignore[no-untyped-call]


def everywhere(builder: Any, value: Any, vector: Any) -> Any:
    """One value in every lane of that kind of vector."""
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return pick(builder, first, ir.Constant(vector, ir.Undefined), [0] * vector.count)


def pick(builder: Any, left: Any, right: Any, places: Sequence[int]) -> Any:
    """A vector of these lanes of two, those of `right` counted on from the last of `left`."""
    return builder.shuffle_vector(left, right, ir.Constant(ir.VectorType(ir.IntType(32), len(places)), list(places)))


def _marks_of(_context: Any, array: Any, _start: Any, _bit: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(16), 64)
        pointer = address(context, builder, signature.args[0], args[0], args[1])
        values = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=2)
        bits = builder.and_(values, everywhere(builder, args[2], vector))
        return builder.bitcast(builder.icmp_unsigned("!=", bits, ir.Constant(vector, [0] * 64)), ir.IntType(64))

    return types.uint64(array, types.intp, types.uint16), codegen


def _reaching(_context: Any, array: Any, _start: Any, _bits: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.IntType(32), 64)
        pointer = address(context, builder, signature.args[0], args[0], args[1])
        values = builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)
        magnitudes = builder.and_(values, ir.Constant(vector, [0x7FFFFFFF] * 64))
        return builder.bitcast(
            builder.icmp_unsigned(">=", magnitudes, everywhere(builder, args[2], vector)), ir.IntType(64)
        )

    return types.uint64(array, types.intp, types.uint32), codegen


def _trailing_zeros(_context: Any, _word: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


def _ones(_context: Any, _word: Any) -> Any:
    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


ones: Any = intrinsic(_ones)
"""How many bits of a word are set."""

marks_of: Any = intrinsic(_marks_of)
"""(uint16 array, start, bit) → uint64: which of 64 consecutive elements have that bit, the first in the lowest."""

reaching: Any = intrinsic(_reaching)
"""(float32 array, start, bits) → uint64: which of 64 consecutive elements have a magnitude of at least those bits."""

trailing_zeros: Any = intrinsic(_trailing_zeros)
"""The place of the lowest bit of a word that is not 0."""
