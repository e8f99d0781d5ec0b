"""Block-wise Gram matrices in numba, with a sum order that is spelled out instead of left to the compiler."""

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes
from kernels.checks import Doubles, Floats
from kernels.compiled import compiled

LANES = 32
DOUBLE = ir.DoubleType()


def _widened(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    pointer = lanes.address(context, builder, kind, array, index)
    return builder.fpext(lanes.load(builder, pointer, LANES), ir.VectorType(DOUBLE, LANES))


def _typing(_context: Any, x: Any, y: Any, _count: Any, sums: Any) -> Any:
    """sums[l] = Σ_i x[32·i + l]·y[32·i + l] in order of i, for i < count. A scalar loop is 8 times slower."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total = lanes.variable(builder, DOUBLE, LANES)
        with cgutils.for_range(builder, args[2]) as loop:
            index = builder.mul(loop.index, ir.Constant(loop.index.type, LANES))
            left = _widened(context, builder, signature.args[0], args[0], index)
            right = _widened(context, builder, signature.args[1], args[1], index)
            builder.store(builder.fadd(builder.load(total), builder.fmul(left, right)), total)
        zero = ir.Constant(args[2].type, 0)
        target = lanes.address(context, builder, signature.args[3], args[3], zero)
        lanes.store(builder, builder.load(total), target, align=8)
        return context.get_dummy_value()

    return types.none(x, y, types.intp, sums), codegen


_lane_sums: Any = intrinsic(_typing)


@compiled
def gram(stack: Floats, block: int, out: Doubles) -> None:
    models, size = stack.shape
    sums = np.empty(LANES, np.float64)
    for b in range(out.shape[0]):
        tile = stack[:, b * block : min(size, (b + 1) * block)]
        for i in range(models):
            for j in range(i + 1):
                value = _inner(tile[i], tile[j], sums)
                out[b, i, j] = value
                out[b, j, i] = value


@compiled
def _inner(x: Floats, y: Floats, sums: Doubles) -> float:
    whole = x.size // LANES
    _lane_sums(x, y, whole, sums)
    total = 0.0
    for lane in range(LANES):
        total += sums[lane]
    for i in range(whole * LANES, x.size):
        total += np.float64(x[i]) * np.float64(y[i])
    return total
