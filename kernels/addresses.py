"""Arrays inside compiled kernels made from bare addresses, so that one kernel takes any number of inputs.

numba would compile a kernel anew for each length of a tuple of arrays, and for each mix of read-only and writable.
The caller has checked type, length and contiguity, and keeps the array alive.
"""

from typing import Any

from llvmlite import ir
from numba import carray  # type: ignore[attr-defined]
from numba.core import types
from numba.extending import intrinsic

from kernels.compiled import inlined_counted


def _pointer(element: Any, llvm: ir.Type) -> Any:
    result = types.CPointer(element)  # type: ignore[no-untyped-call]

    def typing(_context: Any, _address: Any) -> Any:
        def codegen(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], llvm.as_pointer())

        return result(types.uint64), codegen

    return intrinsic(typing)


_to_halves = _pointer(types.uint16, ir.IntType(16))
_to_singles = _pointer(types.float32, ir.FloatType())
_to_doubles = _pointer(types.float64, ir.DoubleType())


@inlined_counted
def halves(address: Any, start: Any, size: Any) -> Any:
    """Elements [start, start + size) of the uint16 at `address`."""
    return carray(_to_halves(address + 2 * start), (size,))


@inlined_counted
def singles(address: Any, start: Any, size: Any) -> Any:
    return carray(_to_singles(address + 4 * start), (size,))


@inlined_counted
def doubles(address: Any, start: Any, size: Any) -> Any:
    return carray(_to_doubles(address + 8 * start), (size,))
