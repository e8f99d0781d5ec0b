"""Words of bits inside compiled kernels: read from any byte, and the first set bit found in one instruction."""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

BITS = ir.IntType(64)


def _word_at(_context: Any, _address: Any) -> Any:
    """The 8 bytes at an address, the lowest first; the caller has 8 bytes there."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], BITS.as_pointer()), align=1)

    return types.uint64(types.uint64), codegen


def _zeros_below(_context: Any, _word: Any) -> Any:
    """How many zero bits lie below the lowest set one; 64 where none is set."""

    def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


word_at: Any = intrinsic(_word_at)
zeros_below: Any = intrinsic(_zeros_below)
