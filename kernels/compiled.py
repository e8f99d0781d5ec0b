"""How a CPU kernel is compiled: on its first call, without the interpreter lock, kept on disk for the next process."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import numba
from numba.core import event, types
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


class _Compilations(event.Listener):
    """Those under way, each within the one that needs it."""

    depth = 0

    def on_start(self, event: event.Event) -> None:
        self.depth += 1

    def on_end(self, event: event.Event) -> None:
        self.depth -= 1


_compilations = _Compilations()
event.register("numba:compile", _compilations)  # type: ignore[no-untyped-call]


def is_compiling() -> bool:
    """True while some thread waits for a kernel that is not on disk yet: seconds, once on each machine."""
    return _compilations.depth > 0


def compiled(function: Function) -> Function:
    """`function` as machine code; fastmath stays off, so LLVM neither reorders sums nor contracts a·b+c.

    A division by zero gives inf or NaN: raising an exception instead would keep loops from vectorising.
    Where no folder can be written (a read-only image without a home) numba refuses to cache; the kernel is
    then compiled once per process.
    """
    return cast("Function", _kept(_compiler(_nrt=True)(function)))


def uncounted(function: Function) -> Function:
    """The same for a kernel that neither makes nor returns arrays: references to them are not counted in it.

    Each count is a locked instruction that waits for all stores before it, and every slice takes two: at a few
    dozen for each stretch of elements they took a tenth to a third of a kernel's time.
    """
    return cast("Function", _kept(_without_arrays(_compiler(_nrt=False)(function))))


def inlined(function: Function) -> Function:
    """A piece of a kernel that LLVM must inline into its caller, so that the caller's loop vectorises; uncounted."""
    return cast("Function", _without_arrays(_compiler(_nrt=False, forceinline=True)(function)))


def inlined_counted(function: Function) -> Function:
    """Such a piece that makes arrays, or returns them, for callers that count them."""
    return cast("Function", _compiler(_nrt=True, forceinline=True)(function))


def pasted(function: Function) -> Function:
    """A piece that numba puts into its caller before that is compiled, and that may return arrays which that has."""
    return cast("Function", _compiler(inline="always")(function))


def _compiler(**options: Any) -> Any:
    return numba.njit(nogil=True, error_model="numpy", **options)


def _kept(kernel: Any) -> Any:
    with suppress(RuntimeError):
        kernel._cache = _Kept(kernel.py_func)  # type: ignore[no-untyped-call]
    return kernel


def _without_arrays(kernel: Any) -> Any:
    """Refuse, once compiled, to return arrays: a caller that counts would free what was not counted for it."""
    add = kernel.add_overload

    def add_checked(overload: Any) -> None:
        result = overload.signature.return_type
        if any(isinstance(part, types.Array) for part in getattr(result, "types", [result])):
            raise TypeError(f"{kernel.py_func.__qualname__}: returns an array, and is not to be counted")
        add(overload)

    kernel.add_overload = add_checked
    return kernel
