"""Adding a low-rank product in numba: sums stay in registers, a band of columns of `down` in the L1 cache."""

from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes
from kernels.checks import Floats
from kernels.compiled import compiled, inlined

L1_BYTES = 32768
WIDE, NARROW = 64, 16


def _add_product(width: int) -> Any:
    def typing(_context: Any, out: Any, _at: Any, factors: Any, down: Any, _column: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, at, factors, down, column = args
            kinds = signature.args
            shape = context.make_array(kinds[3])(context, builder, down).shape
            rank, columns = (builder.extract_value(shape, axis) for axis in (0, 1))
            total = lanes.variable(builder, lanes.FLOAT, width)
            with cgutils.for_range(builder, rank) as loop:
                factor = builder.load(lanes.address(context, builder, kinds[2], factors, loop.index))
                index = builder.add(builder.mul(loop.index, columns), column)
                row = lanes.load(builder, lanes.address(context, builder, kinds[3], down, index), width)
                product = builder.fmul(lanes.spread(builder, factor, width), row)
                builder.store(builder.fadd(builder.load(total), product), total)
            target = lanes.address(context, builder, kinds[0], out, at)
            added = builder.fadd(lanes.load(builder, target, width), builder.load(total))
            lanes.store(builder, added, target, align=4)
            return context.get_dummy_value()

        return types.none(out, types.intp, factors, down, types.intp), codegen

    return intrinsic(typing)


_add_wide = _add_product(WIDE)
_add_narrow = _add_product(NARROW)


@inlined
def _add_one(out: Any, at: Any, factors: Any, down: Any, column: Any) -> None:
    total = np.float32(0)
    for k in range(factors.size):
        total = total + factors[k] * down[k, column]
    out[at] = out[at] + total


@inlined
def _add_run(out: Any, at: Any, factors: Any, down: Any, lo: Any, hi: Any) -> None:
    """out[at + j] += Σ_k factors[k]·down[k, j] for lo ≤ j < hi: 64 columns at a time, then 16, then one."""
    j = lo
    while j + WIDE <= hi:
        _add_wide(out, at + j, factors, down, j)
        j += WIDE
    while j + NARROW <= hi:
        _add_narrow(out, at + j, factors, down, j)
        j += NARROW
    while j < hi:
        _add_one(out, at + j, factors, down, j)
        j += 1


@compiled
def low_rank_add(out: Floats, columns: int, start: int, up: Floats, down: Floats, scale: Any) -> None:
    stop = start + out.size
    first, last = start // columns, (stop - 1) // columns
    scaled = scale * up[first : last + 1]
    band = max(WIDE, L1_BYTES // (4 * max(1, down.shape[0])) // WIDE * WIDE)
    for left in range(0, columns, band):
        for row in range(first, last + 1):
            lo = max(left, start - row * columns)
            hi = min(left + band, columns, stop - row * columns)
            _add_run(out, row * columns - start, scaled[row - first], down, lo, hi)
