"""The bits of a float32, and half precision, inside compiled kernels.

numba has neither a vectorisable bit cast nor float16 arithmetic; these are single LLVM instructions that
the loop vectoriser understands. numba's disk cache watches a kernel's own file only: after a change here,
remove `kernels/**/__pycache__`.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

Emit = Callable[[Any, Any], Any]


def _instruction(result: Any, argument: Any, emit: Emit) -> Any:
    def typing(_context: Any, _value: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return emit(builder, args[0])

        # Naming the argument's type makes numba cast to it: its integer operators widen uint32 to uint64.
        return result(argument), codegen

    return intrinsic(typing)


float_of_bits = _instruction(types.float32, types.uint32, lambda b, x: b.bitcast(x, ir.FloatType()))
bits_of_float = _instruction(types.uint32, types.float32, lambda b, x: b.bitcast(x, ir.IntType(32)))
float_of_half = _instruction(
    types.float32, types.uint16, lambda b, x: b.fpext(b.bitcast(x, ir.HalfType()), ir.FloatType())
)
half_of_float = _instruction(
    types.uint16, types.float32, lambda b, x: b.bitcast(b.fptrunc(x, ir.HalfType()), ir.IntType(16))
)
