"""How a CPU kernel is compiled: on its first call, without the interpreter lock, kept on disk for the next process."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` as machine code; fastmath stays off, so LLVM neither reorders sums nor contracts a·b+c.

    A division by zero gives inf or NaN: raising an exception instead would keep loops from vectorising.
    Where no folder can be written (a read-only image without a home) numba refuses to cache; the kernel is
    then compiled once per process.
    """
    try:
        return cast("Function", numba.njit(nogil=True, cache=True, error_model="numpy")(function))
    except RuntimeError:
        return cast("Function", numba.njit(nogil=True, error_model="numpy")(function))


def inlined(function: Function) -> Function:
    """A piece of a kernel that LLVM must inline into its caller, so that the caller's loop vectorises."""
    return cast("Function", numba.njit(nogil=True, error_model="numpy", forceinline=True)(function))
