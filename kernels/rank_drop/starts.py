"""Counts of bins added up, to the rank that each bin starts with.

Bins lie RUN runs side by side, so that the adding up goes through all runs at once, sums in registers.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes
from kernels.compiled import compiled, uncounted

BINS, RUN = 1 << 13, 1 << 7
"""Bins, two for each upper part of a magnitude: 16 octaves up to the row's largest."""

DEPTH = BINS // RUN

SUMS = ir.VectorType(ir.IntType(16), RUN)


def _adding(counts: Any, keeps: bool) -> Any:
    """Add up the rows after the first: their sums are the first, or begin with it and are kept, each in its row."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(64)

        def row(index: Any) -> Any:
            at = builder.mul(index, number(RUN))
            place = lanes.address(context, builder, signature.args[0], args[0], at)
            return builder.bitcast(place, SUMS.as_pointer())

        first = row(number(0))
        begin = builder.load(first, align=2) if keeps else ir.Constant(SUMS, [0] * RUN)
        sums = cgutils.alloca_once_value(builder, begin)  # type: ignore[no-untyped-call]
        with cgutils.for_range(builder, number(DEPTH)) as loop:
            place = row(builder.add(loop.index, number(1)))
            builder.store(builder.add(builder.load(sums), builder.load(place, align=2)), sums)
            if keeps:
                builder.store(builder.load(sums), place, align=2)
        if not keeps:
            builder.store(builder.load(sums), first, align=2)
        return context.get_dummy_value()

    return types.none(counts), codegen


_add_up: Any = intrinsic(lambda _context, counts: _adding(counts, keeps=False))
_run_up: Any = intrinsic(lambda _context, counts: _adding(counts, keeps=True))


@compiled
def room_for_counts() -> Any:
    """uint16 [RUN + BINS] that begin with a cache line: of vectors that lie in two of them, half as many are read."""
    room = np.empty(RUN + BINS + 32, np.uint16)
    lo = -room.ctypes.data % 64 // 2
    return room[lo : lo + RUN + BINS]


@uncounted
def starts_of(counts: Any) -> None:
    """In place: of counts [RUN + BINS] that begin at RUN, how many entries lie in the bins before each, from 0 on."""
    _add_up(counts)
    total = np.uint16(0)
    for run in range(RUN):
        count = counts[run]
        counts[run] = total
        total = np.uint16(total + count)
    _run_up(counts)
