"""Vectors of stored bfloat16 inside compiled kernels, widened and rounded as `kernels.storage` does it, bit for bit."""

from typing import Any

from llvmlite import ir

from kernels.lanes import FLOAT


def load(builder: Any, pointer: Any, lanes: int) -> Any:
    """`lanes` consecutive bfloat16 as float32."""
    stored, wide = ir.VectorType(ir.IntType(16), lanes), ir.VectorType(ir.IntType(32), lanes)
    raw = builder.load(builder.bitcast(pointer, stored.as_pointer()), align=2)
    bits = builder.shl(builder.zext(raw, wide), _all(16, lanes))
    return builder.bitcast(bits, ir.VectorType(FLOAT, lanes))


def store(builder: Any, value: Any, pointer: Any) -> None:
    """float32 rounded to nearest even; a NaN is made quiet instead."""
    lanes = value.type.count
    stored, wide = ir.VectorType(ir.IntType(16), lanes), ir.VectorType(ir.IntType(32), lanes)
    bits = builder.bitcast(value, wide)
    odd = builder.and_(builder.lshr(bits, _all(16, lanes)), _all(1, lanes))
    rounded = builder.add(builder.add(bits, _all(0x7FFF, lanes)), odd)
    quiet = builder.or_(bits, _all(0x400000, lanes))
    kept = builder.select(builder.fcmp_ordered("ord", value, value), rounded, quiet)
    raw = builder.trunc(builder.lshr(kept, _all(16, lanes)), stored)
    builder.store(raw, builder.bitcast(pointer, stored.as_pointer()), align=2)


def _all(number: int, lanes: int) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), lanes), [number] * lanes)
