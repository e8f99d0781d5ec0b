"""Philox4x32-10 in numba: whole steps of blocks, the first and last step cut to the run that is asked for."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from kernels import lanes
from kernels.checks import Floats
from kernels.compiled import compiled, uncounted
from kernels.philox.blocks import DRAWS, cut, for_each_step
from kernels.runs import put

FLOATS = ir.VectorType(lanes.FLOAT, DRAWS)


def unit(builder: Any, draws: Any) -> Any:
    """Integer draws as float32 from [0, 1)."""
    return builder.fmul(builder.sitofp(draws, FLOATS), ir.Constant(FLOATS, [2.0**-24] * DRAWS))


def _fill(_context: Any, stream: Any, _block: Any, out: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def consume(draws: Any, at: Any) -> None:
            place = lanes.address(context, builder, signature.args[2], args[2], at)
            lanes.store(builder, unit(builder, draws), place, 4)

        for_each_step(context, builder, signature, args, consume)
        return context.get_dummy_value()

    return types.none(stream, types.uint64, out), codegen


_draw: Any = intrinsic(_fill)


@uncounted
def whole_steps(stream: Any, block: Any, out: Floats) -> None:
    """As many as `out` has room for."""
    _draw(stream, block, out)


@compiled
def _edge(stream: Any, start: int, out: Floats) -> None:
    """Fewer elements than a step has, or some from within a block."""
    room, skipped = np.empty(DRAWS, np.float32), start % 4
    whole_steps(stream, np.uint64(start // 4), room)
    put(room[skipped:], out)


@uncounted
def uniform(stream: Any, start: int, out: Floats) -> None:
    lo, hi = cut(start, out.size)
    whole_steps(stream, np.uint64((start + lo) // 4), out[lo:hi])
    if lo:
        _edge(stream, start, out[:lo])
    if hi < out.size:
        _edge(stream, start + hi, out[hi:])
