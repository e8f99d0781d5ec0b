"""Adding a low-rank product in numba: sums stay in registers, a band of columns of `down` in the L1 cache."""

from typing import Any

import numpy as np
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes
from kernels.checks import Floats
from kernels.compiled import compiled, inlined

L1_BYTES = 32768
NARROW = 16
# A tile of 6 rows and a line of `down` fill the registers: 32 of 16 floats, or 16 of 8.
TILE, WIDE = (6, 64) if get_host_cpu_features().get("avx512f") else (6, 16)


def _add_product(rows: int, width: int) -> Any:
    """out[at + r·columns + j] += Σ_k factors[first + r, k]·down[k, column + j] for `rows` rows and `width` columns."""

    def typing(_context: Any, out: Any, _at: Any, factors: Any, _first: Any, down: Any, _column: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            out, at, factors, first, down, column = args
            kinds = signature.args
            shape = context.make_array(kinds[4])(context, builder, down).shape
            rank, columns = (builder.extract_value(shape, axis) for axis in (0, 1))
            starts = [builder.mul(builder.add(first, first.type(row)), rank) for row in range(rows)]
            totals = [lanes.variable(builder, lanes.FLOAT, width) for _ in range(rows)]
            with cgutils.for_range(builder, rank) as loop:
                index = builder.add(builder.mul(loop.index, columns), column)
                line = lanes.load(builder, lanes.address(context, builder, kinds[4], down, index), width)
                for start, total in zip(starts, totals, strict=True):
                    place = lanes.address(context, builder, kinds[2], factors, builder.add(start, loop.index))
                    product = builder.fmul(lanes.spread(builder, builder.load(place), width), line)
                    builder.store(builder.fadd(builder.load(total), product), total)
            for row, total in enumerate(totals):
                place = builder.add(at, builder.mul(columns, columns.type(row)))
                target = lanes.address(context, builder, kinds[0], out, place)
                added = builder.fadd(lanes.load(builder, target, width), builder.load(total))
                lanes.store(builder, added, target, align=4)
            return context.get_dummy_value()

        return types.none(out, types.intp, factors, types.intp, down, types.intp), codegen

    return intrinsic(typing)


_add_tile = _add_product(TILE, WIDE)
_add_wide = _add_product(1, WIDE)
_add_narrow = _add_product(1, NARROW)


@inlined
def _add_one(out: Any, at: Any, factors: Any, row: Any, down: Any, column: Any) -> None:
    total = np.float32(0)
    for k in range(factors.shape[1]):
        total = total + factors[row, k] * down[k, column]
    out[at] = out[at] + total


@inlined
def _add_run(out: Any, at: Any, factors: Any, row: Any, down: Any, lo: Any, hi: Any) -> None:
    """out[at + j] += Σ_k factors[row, k]·down[k, j] for lo ≤ j < hi: many columns at a time, then 16, then one."""
    j = lo
    while j + WIDE <= hi:
        _add_wide(out, at + j, factors, row, down, j)
        j += WIDE
    while j + NARROW <= hi:
        _add_narrow(out, at + j, factors, row, down, j)
        j += NARROW
    while j < hi:
        _add_one(out, at + j, factors, row, down, j)
        j += 1


@inlined
def _add_rows(out: Any, at: Any, factors: Any, row: Any, down: Any, lo: Any, hi: Any) -> None:
    """The same for `TILE` rows, which share what is loaded of `down`."""
    columns, j = down.shape[1], lo
    while j + WIDE <= hi:
        _add_tile(out, at + j, factors, row, down, j)
        j += WIDE
    for below in range(TILE):
        _add_run(out, at + below * columns, factors, row + below, down, j, hi)


@compiled
def low_rank_add(out: Floats, columns: int, start: int, up: Floats, down: Floats, scale: Any) -> None:
    stop = start + out.size
    first, last = start // columns, (stop - 1) // columns
    scaled = scale * up[first : last + 1]
    band = max(WIDE, L1_BYTES // (4 * max(1, down.shape[0])) // WIDE * WIDE)
    for left in range(0, columns, band):
        right, row = min(left + band, columns), first
        while row <= last:
            at = row * columns - start
            if at >= 0 and (row + TILE) * columns <= stop:
                _add_rows(out, at, scaled, row - first, down, left, right)
                row += TILE
            else:
                _add_run(out, at, scaled, row - first, down, max(left, -at), min(right, stop - row * columns))
                row += 1
