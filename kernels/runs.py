"""Runs of elements copied inside a compiled kernel."""

from typing import Any

from kernels.compiled import inlined


@inlined
def put(values: Any, out: Any) -> None:
    """The first of `values` into `out`, as many as that has room for.

    For `out[:] = values` numba would also compile what it says of two shapes that differ: four seconds, in each
    process that compiles such a kernel.
    """
    for i in range(out.size):
        out[i] = values[i]
