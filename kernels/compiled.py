"""How a CPU kernel is compiled: on its first call, without the interpreter lock, kept on disk for the next process."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache
from numba.core.runtime.nrt import rtsys

Function = TypeVar("Function", bound=Callable[..., Any])


class _Kept(FunctionCache):
    """Machine code on disk, loaded without what only compiling needs.

    numba would first import all that it can compile, and scipy with it: a fifth of a second in every process.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        rtsys.initialize(target_context)  # the allocator that the code calls
        return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


def compiled(function: Function) -> Function:
    """`function` as machine code; fastmath stays off, so LLVM neither reorders sums nor contracts a·b+c.

    A division by zero gives inf or NaN: raising an exception instead would keep loops from vectorising.
    Where no folder can be written (a read-only image without a home) numba refuses to cache; the kernel is
    then compiled once per process.
    """
    kernel = numba.njit(nogil=True, error_model="numpy")(function)
    with suppress(RuntimeError):
        kernel._cache = _Kept(function)  # type: ignore[attr-defined, no-untyped-call]
    return cast("Function", kernel)


def inlined(function: Function) -> Function:
    """A piece of a kernel that LLVM must inline into its caller, so that the caller's loop vectorises."""
    return cast("Function", numba.njit(nogil=True, error_model="numpy", forceinline=True)(function))
