"""Adding a low-rank product in numba: sums stay in registers, a band of columns of `down` in the L1 cache."""

from typing import Any

from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import bfloat16_lanes, lanes
from kernels.addresses import halves
from kernels.checks import Floats
from kernels.compiled import compiled, inlined, inlined_counted

L1_BYTES = 32768
NARROW = 16
# A tile of 6 rows and a line of `down` fill the registers: 32 of 16 floats, or 16 of 8.
TILE, WIDE = (6, 64) if get_host_cpu_features().get("avx512f") else (6, 16)


def _add_product(rows: int, width: int) -> Any:
    """out[p] = base[p] + Σ_k factors[first + r, k]·down[k, column + j] at p = at + r·columns + j, r < rows, j < width.

    `base` and `out` are float32 and may be the same, or both are bfloat16.
    """

    def typing(_context: Any, base: Any, out: Any, _at: Any, factors: Any, _first: Any, down: Any, _column: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            base, out, at, factors, first, down, column = args
            kinds = signature.args
            shape = context.make_array(kinds[5])(context, builder, down).shape
            rank, columns = (builder.extract_value(shape, axis) for axis in (0, 1))
            starts = [builder.mul(builder.add(first, first.type(row)), rank) for row in range(rows)]
            totals = [lanes.variable(builder, lanes.FLOAT, width) for _ in range(rows)]
            with cgutils.for_range(builder, rank) as loop:
                index = builder.add(builder.mul(loop.index, columns), column)
                line = lanes.load(builder, lanes.address(context, builder, kinds[5], down, index), width)
                for start, total in zip(starts, totals, strict=True):
                    place = lanes.address(context, builder, kinds[3], factors, builder.add(start, loop.index))
                    product = builder.fmul(lanes.spread(builder, builder.load(place), width), line)
                    builder.store(builder.fadd(builder.load(total), product), total)
            load, store = (bfloat16_lanes.load, bfloat16_lanes.store) if _is_stored(kinds[1]) else (lanes.load, _store)
            for row, total in enumerate(totals):
                place = builder.add(at, builder.mul(columns, columns.type(row)))
                source = lanes.address(context, builder, kinds[0], base, place)
                target = lanes.address(context, builder, kinds[1], out, place)
                store(builder, builder.fadd(load(builder, source, width), builder.load(total)), target)
            return context.get_dummy_value()

        return types.none(base, out, types.intp, factors, types.intp, down, types.intp), codegen

    return intrinsic(typing)


def _is_stored(kind: Any) -> bool:
    return bool(kind.dtype == types.uint16)


def _store(builder: Any, value: Any, pointer: Any) -> None:
    lanes.store(builder, value, pointer, align=4)


_add_tile = _add_product(TILE, WIDE)
_add_pair = _add_product(2, WIDE)
_add_wide = _add_product(1, WIDE)
_add_narrow = _add_product(1, NARROW)
_add_one = _add_product(1, 1)


@inlined
def _add_run(base: Any, out: Any, at: Any, factors: Any, row: Any, down: Any, lo: Any, hi: Any) -> None:
    """One row's columns lo ≤ j < hi, column j at `at` + j: many columns at a time, then 16, then one."""
    j = lo
    while j + WIDE <= hi:
        _add_wide(base, out, at + j, factors, row, down, j)
        j += WIDE
    while j + NARROW <= hi:
        _add_narrow(base, out, at + j, factors, row, down, j)
        j += NARROW
    while j < hi:
        _add_one(base, out, at + j, factors, row, down, j)
        j += 1


@inlined
def _add_rows(base: Any, out: Any, at: Any, factors: Any, row: Any, down: Any, lo: Any, hi: Any) -> None:
    """The same for `TILE` rows, which share what is loaded of `down`."""
    columns, j = down.shape[1], lo
    while j + WIDE <= hi:
        _add_tile(base, out, at + j, factors, row, down, j)
        j += WIDE
    for below in range(TILE):
        _add_run(base, out, at + below * columns, factors, row + below, down, j, hi)


@inlined
def _add_two(base: Any, out: Any, at: Any, factors: Any, row: Any, down: Any, lo: Any, hi: Any) -> None:
    """The same for two rows: one alone waits for each sum before the next."""
    columns, j = down.shape[1], lo
    while j + WIDE <= hi:
        _add_pair(base, out, at + j, factors, row, down, j)
        j += WIDE
    for below in range(2):
        _add_run(base, out, at + below * columns, factors, row + below, down, j, hi)


@inlined_counted
def _add(base: Any, out: Any, columns: Any, start: Any, up: Any, down: Any, scale: Any) -> None:
    stop = start + out.size
    first, last = start // columns, (stop - 1) // columns
    scaled = scale * up[first : last + 1]
    band = max(WIDE, L1_BYTES // (4 * max(1, down.shape[0])) // WIDE * WIDE)
    for left in range(0, columns, band):
        right, row = min(left + band, columns), first
        while row <= last:
            at = row * columns - start
            if at >= 0 and (row + TILE) * columns <= stop:
                _add_rows(base, out, at, scaled, row - first, down, left, right)
                row += TILE
            elif at >= 0 and (row + 2) * columns <= stop:
                _add_two(base, out, at, scaled, row - first, down, left, right)
                row += 2
            else:
                lo, hi = max(left, -at), min(right, stop - row * columns)
                _add_run(base, out, at, scaled, row - first, down, lo, hi)
                row += 1


@compiled
def low_rank_add(out: Floats, columns: int, start: int, up: Floats, down: Floats, scale: Any) -> None:
    _add(out, out, columns, start, up, down, scale)


@compiled
def bfloat16_low_rank_add(
    base: Any, out: Any, size: int, columns: int, start: int, up: Floats, down: Floats, scale: Any
) -> None:
    """`base` and `out` are the addresses of so many elements."""
    _add(halves(base, 0, size), halves(out, 0, size), columns, start, up, down, scale)
