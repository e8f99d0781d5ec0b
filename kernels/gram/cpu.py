"""Block-wise Gram matrices in numba, with a sum order that is spelled out instead of left to the compiler."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes
from kernels.checks import Doubles, Floats, Integers
from kernels.compiled import compiled
from kernels.stored_rows import STRETCH, load_stretches

LANES = 32
DOUBLE = ir.DoubleType()


def _widened(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = lanes.address(context, builder, kind, array, index)
    return builder.fpext(lanes.load(builder, pointer, LANES), ir.VectorType(DOUBLE, LANES))


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
            builder.store(builder.fadd(builder.load(total), builder.fmul(left, right)), total)
        builder.store(builder.load(total), target, align=8)
        return context.get_dummy_value()

    return types.none(x, y, types.intp, sums), codegen


_add_lane_sums: Any = intrinsic(_typing)


@compiled
def _add(x: Floats, y: Floats, sums: Doubles) -> None:
    _add_lane_sums(x, y, x.size // LANES, sums)


@compiled
def _finished(x: Floats, y: Floats, sums: Doubles) -> float:
    """The sum of all lanes, and then of what is left of the last stretch, x and y."""
    total = 0.0
    for lane in range(LANES):
        total += sums[lane]
    for i in range(x.size // LANES * LANES, x.size):
        total += np.float64(x[i]) * np.float64(y[i])
    return total


@compiled
def gram(table: Integers, size: int, block: int, out: Doubles) -> None:
    models = out.shape[1]
    rows, sums = np.empty((models + 1, STRETCH), np.float32), np.empty((models, models, LANES), np.float64)
    for b in range(out.shape[0]):
        sums[:] = 0.0
        stop, width = min(size, (b + 1) * block), 0
        for lo in range(b * block, stop, STRETCH):
            width = min(STRETCH, stop - lo)
            load_stretches(table, lo, width, rows)
            for i in range(models):
                for j in range(i + 1):
                    _add(rows[i, :width], rows[j, :width], sums[i, j])
        for i in range(models):
            for j in range(i + 1):
                value = _finished(rows[i, :width], rows[j, :width], sums[i, j])
                out[b, i, j] = value
                out[b, j, i] = value


@compiled
def _clear(row: Floats, mask: Any) -> None:
    for i in range(row.size):
        row[i] = row[i] if mask[i] else np.float32(0)


@compiled
def squares(table: Integers, size: int, mask: Any, block: int, out: Doubles) -> None:
    """The diagonals alone, of what is marked in `mask`; all is where `mask` is empty."""
    models = out.shape[1]
    rows, sums = np.empty((models + 1, STRETCH), np.float32), np.empty((models, LANES), np.float64)
    for b in range(out.shape[0]):
        sums[:] = 0.0
        stop, width = min(size, (b + 1) * block), 0
        for lo in range(b * block, stop, STRETCH):
            width = min(STRETCH, stop - lo)
            load_stretches(table, lo, width, rows)
            for i in range(models):
                if mask.size:
                    _clear(rows[i, :width], mask[lo : lo + width])
                _add(rows[i, :width], rows[i, :width], sums[i])
        for i in range(models):
            out[b, i] = _finished(rows[i, :width], rows[i, :width], sums[i])
