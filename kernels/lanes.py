"""Vector instructions inside compiled kernels, for the loops LLVM will not vectorise by itself.

LLVM may not reorder a float sum and gives up on loops over many arrays. Here each lane is one element or
one IEEE addition chain, so the bits do not depend on how wide the machine's registers are.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

FLOAT = ir.FloatType()


def address(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """A pointer to element `index` of a C-contiguous array, counted flat."""
    return builder.gep(context.make_array(kind)(context, builder, array).data, [index])


def load(builder: Any, pointer: Any, lanes: int) -> Any:
    """`lanes` consecutive float32, at any float32's alignment."""
    vector = ir.VectorType(FLOAT, lanes)
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=4)


def store(builder: Any, value: Any, pointer: Any, align: int) -> None:
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=align)


def spread(builder: Any, value: Any, lanes: int) -> Any:
    """One float32 in every lane."""
    vector = ir.VectorType(FLOAT, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), everywhere)


def variable(builder: Any, kind: Any, lanes: int) -> Any:
    """A local vector that starts at 0.0; LLVM keeps it in registers."""
    zeros = ir.Constant(ir.VectorType(kind, lanes), [0.0] * lanes)
    return cgutils.alloca_once_value(builder, zeros)  # type: ignore[no-untyped-call]
