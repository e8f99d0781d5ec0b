"""Rows of stored bfloat16 widened up to four at once, and asked for ahead of time.

A processor fetches ahead of a loop, but not beyond a page: of rows that are read one after the other, a page of
each, every page is waited for. numba's disk cache watches a kernel's own file only: after a change here, remove
`kernels/**/__pycache__`.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import bfloat16_lanes, lanes
from kernels.addresses import halves
from kernels.checks import Floats, Integers
from kernels.compiled import uncounted
from kernels.storage.cpu import from_bfloat16

FOUR = 4
LANES = 32
"""As many as a cache line holds."""
BYTE = ir.IntType(8).as_pointer()


def _loader(models: int, has_base: bool) -> Any:
    """rows[first + m, i] = x_m[lo + i] − base[lo + i] for i < LANES·count, m < `models`; the last row is the base."""

    def typing(_context: Any, table: Any, _lo: Any, rows: Any, _first: Any, _count: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            table, lo, rows, first, count = args
            number, kind = count.type, signature.args[2]
            shape = context.make_array(kind)(context, builder, rows).shape

            def source(row: Any) -> Any:
                place = lanes.address(context, builder, signature.args[0], table, builder.mul(row, number(2)))
                return builder.inttoptr(builder.add(builder.load(place), builder.mul(lo, number(2))), BYTE)

            def target(row: Any) -> Any:
                return lanes.address(context, builder, kind, rows, builder.mul(row, builder.extract_value(shape, 1)))

            own = [builder.add(first, number(model)) for model in range(models)]
            read = [source(number(0)), *(source(builder.add(row, number(1))) for row in own)]
            write = [target(builder.sub(builder.extract_value(shape, 0), number(1))), *map(target, own)]
            with cgutils.for_range(builder, count) as loop:
                at = builder.mul(loop.index, number(LANES))
                _step(builder, [builder.gep(p, [builder.mul(at, number(2))]) for p in read], write, at, has_base)
            return context.get_dummy_value()

        return types.none(table, types.intp, rows, types.intp, types.intp), codegen

    return intrinsic(typing)


def _step(builder: Any, read: list[Any], write: list[Any], at: Any, has_base: bool) -> None:
    """LANES elements of the base and of each model."""
    for source in read if has_base else read[1:]:
        lanes.fetch_ahead(builder, source)
    base = bfloat16_lanes.load(builder, read[0], LANES) if has_base else None
    if base is not None:
        lanes.store(builder, base, builder.gep(write[0], [at]), 4)
    for source, target in zip(read[1:], write[1:], strict=True):
        value = bfloat16_lanes.load(builder, source, LANES)
        lanes.store(builder, value if base is None else builder.fsub(value, base), builder.gep(target, [at]), 4)


_one, _two, _three, _four = (_loader(models, has_base=False) for models in (1, 2, 3, 4))
_one_less, _two_less, _three_less, _four_less = (_loader(models, has_base=True) for models in (1, 2, 3, 4))


@uncounted
def _load(table: Integers, lo: int, rows: Floats, first: int, models: int, count: int) -> None:
    if models == 4:
        _four(table, lo, rows, first, count)
    elif models == 3:
        _three(table, lo, rows, first, count)
    elif models == 2:
        _two(table, lo, rows, first, count)
    else:
        _one(table, lo, rows, first, count)


@uncounted
def _load_less(table: Integers, lo: int, rows: Floats, first: int, models: int, count: int) -> None:
    if models == 4:
        _four_less(table, lo, rows, first, count)
    elif models == 3:
        _three_less(table, lo, rows, first, count)
    elif models == 2:
        _two_less(table, lo, rows, first, count)
    else:
        _one_less(table, lo, rows, first, count)


@uncounted
def _finish(table: Integers, lo: int, width: int, rows: Floats, done: int) -> None:
    """The elements from `done` on, fewer than LANES."""
    models, has_base = rows.shape[0] - 1, table[0, 1] != 0
    if has_base:
        _widen_rest(table[0, 0], lo + done, rows[models, done:width])
    for model in range(models):
        row = rows[model, done:width]
        _widen_rest(table[model + 1, 0], lo + done, row)
        if has_base:
            row -= rows[models, done:width]


@uncounted
def _widen_rest(address: Any, start: int, out: Floats) -> None:
    raw = halves(address, start, out.size)
    for i in range(out.size):
        out[i] = from_bfloat16(raw[i])


@uncounted
def load_bfloat16(table: Integers, lo: int, width: int, rows: Floats) -> None:
    """`width` elements of each model from `lo` on, less the base's; these in the last row, if there is a base."""
    models, has_base, count = rows.shape[0] - 1, table[0, 1] != 0, width // LANES
    for first in range(0, models, FOUR):
        together = min(FOUR, models - first)
        if has_base:
            _load_less(table, lo, rows, first, together, count)
        else:
            _load(table, lo, rows, first, together, count)
    _finish(table, lo, width, rows, count * LANES)
