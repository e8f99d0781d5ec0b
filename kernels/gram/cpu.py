"""Block-wise Gram matrices in numba, with a sum order that is spelled out instead of left to the compiler."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes
from kernels.addresses import halves
from kernels.checks import Doubles, Floats, Integers
from kernels.compiled import compiled, inlined, uncounted
from kernels.storage.cpu import from_bfloat16
from kernels.stored_rows import NO_BASE, STRETCH, is_bfloat16, load_stretches

STEP = 256
"""Elements of a bfloat16 row that are read before those of the next: of more, every page is waited for."""
LANES = 32
TOGETHER = 8
"""Lanes whose totals, of every pair among four rows, fit into the registers at once."""
DOUBLE = ir.DoubleType()
WIDE = ir.VectorType(DOUBLE, TOGETHER)


def _widened(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = lanes.address(context, builder, kind, array, index)
    return builder.fpext(lanes.load(builder, pointer, LANES), ir.VectorType(DOUBLE, LANES))


def _added(builder: Any, x: Any, y: Any, total: Any) -> Any:
    """total + x·y in one instruction where there is one: a product of two float32 is exact, so no bit changes."""
    kind = ir.FunctionType(total.type, [total.type] * 3)
    name = f"llvm.fmuladd.v{total.type.count}f64"
    fused = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    return builder.call(fused, [x, y, total])


def _typing(_context: Any, x: Any, y: Any, _count: Any, sums: Any) -> Any:
    """sums[l] += x[32·i + l]·y[32·i + l] in order of i, for i < count. A scalar loop is 8 times slower."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = lanes.address(context, builder, signature.args[3], args[3], ir.Constant(args[2].type, 0))
        target = builder.bitcast(start, ir.VectorType(DOUBLE, LANES).as_pointer())
        total = lanes.variable(builder, DOUBLE, LANES)
        builder.store(builder.load(target, align=8), total)
        with cgutils.for_range(builder, args[2]) as loop:
            index = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
            left = _widened(context, builder, signature.args[0], args[0], index)
            right = _widened(context, builder, signature.args[1], args[1], index)
            builder.store(_added(builder, left, right, builder.load(total)), total)
        builder.store(builder.load(total), target, align=8)
        return context.get_dummy_value()

    return types.none(x, y, types.intp, sums), codegen


_add_lane_sums: Any = intrinsic(_typing)


@uncounted
def add(x: Floats, y: Floats, sums: Doubles) -> None:
    _add_lane_sums(x, y, x.size // LANES, sums)


def _products(models: int) -> Any:
    """sums[i, j, l] += rows[i, 32·k + l]·rows[j, 32·k + l] in order of k, for k < count and every pair j ≤ i.

    The same sums as pair by pair; but each element is widened once, and the totals of 8 lanes stay in registers.
    """

    def typing(_context: Any, rows: Any, _count: Any, sums: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows, count, sums = args
            kind, _, totals_kind = signature.args
            stride = builder.extract_value(context.make_array(kind)(context, builder, rows).shape, 1)
            pairs = [(i, j) for i in range(models) for j in range(i + 1)]
            for lane in range(0, LANES, TOGETHER):
                places = [
                    builder.bitcast(
                        lanes.address(context, builder, totals_kind, sums, count.type((i * models + j) * LANES + lane)),
                        WIDE.as_pointer(),
                    )
                    for i, j in pairs
                ]
                totals = [lanes.variable(builder, DOUBLE, TOGETHER) for _ in pairs]
                for total, place in zip(totals, places, strict=True):
                    builder.store(builder.load(place, align=8), total)
                with cgutils.for_range(builder, count) as loop:
                    at = builder.add(builder.mul(loop.index, count.type(LANES)), count.type(lane))
                    indices = [builder.add(builder.mul(stride, stride.type(i)), at) for i in range(models)]
                    pointers = [lanes.address(context, builder, kind, rows, index) for index in indices]
                    values = [builder.fpext(lanes.load(builder, pointer, TOGETHER), WIDE) for pointer in pointers]
                    for (i, j), total in zip(pairs, totals, strict=True):
                        builder.store(_added(builder, values[i], values[j], builder.load(total)), total)
                for total, place in zip(totals, places, strict=True):
                    builder.store(builder.load(total), place, align=8)
            return context.get_dummy_value()

        return types.none(rows, types.intp, sums), codegen

    return intrinsic(typing)


_add_two, _add_three, _add_four = _products(2), _products(3), _products(4)


@uncounted
def _add_pairs(rows: Floats, width: int, sums: Doubles) -> None:
    """The products of all pairs among the first rows, as many as `sums` has, over `width` elements."""
    count, models = width // LANES, len(sums)
    if models == 2:
        _add_two(rows, count, sums)
    elif models == 3:
        _add_three(rows, count, sums)
    elif models == 4:
        _add_four(rows, count, sums)
    else:
        for i in range(models):
            for j in range(i + 1):
                _add_lane_sums(rows[i], rows[j], count, sums[i, j])


@uncounted
def finished(x: Floats, y: Floats, sums: Doubles) -> float:
    """The sum of all lanes, and then of what is left of the last stretch, x and y."""
    total = 0.0
    for lane in range(LANES):
        total += sums[lane]
    for i in range(x.size // LANES * LANES, x.size):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@inlined
def _widen(raw: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = from_bfloat16(raw[i])


@inlined
def _widen_apart(raw: Any, base: Any, out: Any) -> None:
    for i in range(out.size):
        out[i] = from_bfloat16(raw[i]) - from_bfloat16(base[i])


@uncounted
def _load(table: Integers, lo: int, width: int, is_narrow: bool, rows: Floats) -> None:
    """`width` elements of each model from `lo` on, less the base's where there is one."""
    if not is_narrow:
        load_stretches(table, lo, width, rows)
        return
    has_base = table[0, 1] != NO_BASE
    base = halves(table[0, 0], lo, width)
    for model in range(rows.shape[0] - 1):
        raw, row = halves(table[model + 1, 0], lo, width), rows[model, :width]
        if has_base:
            _widen_apart(raw, base, row)
        else:
            _widen(raw, row)


@uncounted
def _add_block(table: Integers, lo: int, stop: int, is_narrow: bool, rows: Floats, sums: Doubles, out: Doubles) -> None:
    """The products of all pairs over the elements from `lo` to `stop`: [models, models]."""
    step, width = rows.shape[1], 0
    sums[:] = 0.0
    for first in range(lo, stop, step):
        width = min(step, stop - first)
        _load(table, first, width, is_narrow, rows)
        _add_pairs(rows, width, sums)
    for i in range(len(out)):
        for j in range(i + 1):
            out[i, j] = out[j, i] = finished(rows[i, :width], rows[j, :width], sums[i, j])


@compiled
def gram(table: Integers, size: int, block: int, out: Doubles) -> None:
    models, is_narrow = out.shape[1], is_bfloat16(table)
    step = STEP if is_narrow else STRETCH
    rows, sums = np.empty((models + 1, step), np.float32), np.empty((models, models, LANES), np.float64)
    for b in range(out.shape[0]):
        _add_block(table, b * block, min(size, (b + 1) * block), is_narrow, rows, sums, out[b])


@uncounted
def _clear(row: Floats, mask: Any) -> None:
    for i in range(row.size):
        row[i] = row[i] if mask[i] else np.float32(0)


@uncounted
def _add_squares(table: Integers, lo: int, stop: int, mask: Any, rows: Floats, sums: Doubles, out: Doubles) -> None:
    """Those of each model over the elements from `lo` to `stop`: [models]."""
    width = 0
    sums[:] = 0.0
    for first in range(lo, stop, STRETCH):
        width = min(STRETCH, stop - first)
        load_stretches(table, first, width, rows)
        for i in range(out.size):
            row = rows[i, :width]
            if mask.size:
                _clear(row, mask[first : first + width])
            add(row, row, sums[i])
    for i in range(out.size):
        out[i] = finished(rows[i, :width], rows[i, :width], sums[i])


@compiled
def squares(table: Integers, size: int, mask: Any, block: int, out: Doubles) -> None:
    """The diagonals alone, of what is marked in `mask`; all is where `mask` is empty."""
    models = out.shape[1]
    rows, sums = np.empty((models + 1, STRETCH), np.float32), np.empty((models, LANES), np.float64)
    for b in range(out.shape[0]):
        _add_squares(table, b * block, min(size, (b + 1) * block), mask, rows, sums, out[b])
