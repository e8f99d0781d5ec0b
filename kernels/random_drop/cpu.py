"""Dropping in numba: what is drawn never leaves the registers."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from kernels import lanes
from kernels.checks import Floats
from kernels.compiled import compiled, uncounted
from kernels.philox.blocks import BITS, DRAWS, cut, for_each_step
from kernels.philox.cpu import FLOATS
from kernels.runs import put

LANES = 16
"""Of the sums that tell whether all was finite: more would take registers that the draws need."""


def _thinning(divides: bool) -> Any:
    """row[i] = row[i] / divisor where its draw is below the limit, else row[i] − row[i]; whether all were finite."""

    def typing(_context: Any, stream: Any, _block: Any, row: Any, _limit: Any, _divisor: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            limit, divisor = lanes.everywhere(builder, args[3], BITS), lanes.everywhere(builder, args[4], FLOATS)
            dropped_sums = lanes.variable(builder, lanes.FLOAT, LANES)

            def consume(draws: Any, at: Any) -> None:
                place = lanes.address(context, builder, signature.args[2], args[2], at)
                x = lanes.load(builder, place, DRAWS)
                kept, dropped = builder.fdiv(x, divisor) if divides else x, builder.fsub(x, x)
                is_kept = builder.icmp_unsigned("<", draws, limit)
                lanes.store(builder, builder.select(is_kept, kept, dropped), place, 4)
                _add_to(builder, dropped_sums, dropped)

            for_each_step(context, builder, signature, args, consume)
            return _are_numbers(builder, builder.load(dropped_sums))

        return types.boolean(stream, types.uint64, row, types.uint32, types.float32), codegen

    return intrinsic(typing)


def _add_to(builder: Any, sums: Any, values: Any) -> None:
    for lo in range(0, DRAWS, LANES):
        part = lanes.pick(builder, values, values, range(lo, lo + LANES))
        builder.store(builder.fadd(builder.load(sums), part), sums)


def _are_numbers(builder: Any, values: Any) -> Any:
    nans = builder.bitcast(builder.fcmp_unordered("uno", values, values), ir.IntType(LANES))
    return builder.icmp_unsigned("==", nans, nans.type(0))


_thin, _thin_and_divide = _thinning(divides=False), _thinning(divides=True)


@uncounted
def _whole_steps(stream: Any, block: Any, limit: Any, divisor: Any, row: Floats) -> bool:
    if divisor == np.float32(1):
        return bool(_thin(stream, block, row, limit, divisor))
    return bool(_thin_and_divide(stream, block, row, limit, divisor))


@compiled
def _edge(stream: Any, start: int, limit: Any, divisor: Any, row: Floats) -> bool:
    """Fewer elements than a step has, or some from within a block."""
    room, skipped = np.zeros(DRAWS, np.float32), start % 4
    part = room[skipped : skipped + row.size]
    put(row, part)
    is_finite = _whole_steps(stream, np.uint64(start // 4), limit, divisor, room)
    put(part, row)
    return is_finite


@uncounted
def thin(stream: Any, start: int, limit: Any, divisor: Any, row: Floats) -> bool:
    """x / divisor where the draw of an entry, an integer below 2^24, is below `limit`, else x − x.

    x − x is 0, and NaN for what is not finite; False where there is such an entry.
    """
    lo, hi = cut(start, row.size)
    is_finite = _whole_steps(stream, np.uint64((start + lo) // 4), limit, divisor, row[lo:hi])
    if lo:
        is_finite &= _edge(stream, start, limit, divisor, row[:lo])
    if hi < row.size:
        is_finite &= _edge(stream, start + hi, limit, divisor, row[hi:])
    return is_finite


@uncounted
def random_drop(rows: Floats, streams: Any, start: int, limit: Any, divisor: Any) -> None:
    """`rows` in place."""
    for i in range(rows.shape[0]):
        thin(streams[i], start, limit, divisor, rows[i])
