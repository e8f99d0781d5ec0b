"""Sums of signed values in registers: from a base and the experts' bitplanes to the result, a block at a time.

All planes of a block are read in one loop, and asked for ahead of it: read one after the other, a stretch of each,
they would be waited for, since a processor fetches ahead of a loop, but not beyond a page. Every lane is one element
and its own chain of IEEE additions.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import bfloat16_lanes, lanes

LANES = 16
BITS = ir.IntType(LANES)
MASK = ir.VectorType(ir.IntType(1), LANES)
FLOATS = ir.VectorType(lanes.FLOAT, LANES)
BYTE = ir.IntType(8).as_pointer()
IS_WIDE = bool(get_host_cpu_features().get("avx512f"))
GROUPS = 16 if IS_WIDE else 4
"""Groups of lanes whose sums are in registers at once: there are 32 of 16 floats, or 16 of 8."""
BLOCK = 256
"""Elements that a run is a multiple of."""
LINE = 64
ENTRY = 4
"""What is known of an expert: its value where it is +, −, and neither, and its weight."""

Step = Callable[[Any, Any, Any, Any, Any], Any]
"""Builder, the total so far, what the expert says, its weight and the base → the total."""


def _add(builder: Any, total: Any, chosen: Any, _weight: Any, _base: Any) -> Any:
    return builder.fadd(total, chosen)


def _add_weight(builder: Any, total: Any, chosen: Any, weight: Any, base: Any) -> Any:
    return builder.fadd(total, builder.fmul(weight, builder.fadd(chosen, base)))


def _summing(load: Any, store: Any, nbytes: int, step: Step) -> Any:
    """`blocks` blocks of out = base + scale · Σ, or of Σ alone where `step` has the base in it.

    `places` is uint64 [experts, 2], the planes' addresses, and `entries` float32 [experts, ENTRY]; the elements of
    `base` and `out`, both addresses, take `nbytes` each.
    """
    has_base = step is _add_weight
    groups = GROUPS // 2 if has_base else GROUPS  # a base in registers beside the sums leaves room for half of them

    def typing(_context: Any, places: Any, entries: Any, _base: Any, _out: Any, _scale: Any, _blocks: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            places, entries, base, out, scale, blocks = args
            number = blocks.type
            experts = builder.extract_value(context.make_array(signature.args[1])(context, builder, entries).shape, 0)
            wide = lanes.spread(builder, scale, LANES)

            def elements(address: Any, block: Any) -> list[Any]:
                first = builder.inttoptr(address, BYTE)
                at = builder.mul(block, number(groups * LANES * nbytes))
                return [builder.gep(first, [builder.add(at, number(g * LANES * nbytes))]) for g in range(groups)]

            def known(kind: Any, array: Any, expert: Any, count: int) -> list[Any]:
                first = lanes.address(context, builder, kind, array, builder.mul(expert, number(count)))
                return [builder.load(builder.gep(first, [number(i)])) for i in range(count)]

            with cgutils.for_range(builder, builder.mul(blocks, number(BLOCK // LANES // groups))) as outer:
                read = elements(base, outer.index)
                for line in read[:: max(LINE // (LANES * nbytes), 1)]:
                    lanes.fetch_ahead(builder, line)
                bases = [load(builder, pointer, LANES) for pointer in read] if has_base else [None] * groups
                totals = [_variable(builder) for _ in range(groups)]
                with cgutils.for_range(builder, experts) as inner:
                    at = builder.mul(outer.index, number(groups * LANES // 8))
                    addresses = known(signature.args[0], places, inner.index, 2)
                    planes = [builder.gep(builder.inttoptr(address, BYTE), [at]) for address in addresses]
                    values = known(signature.args[1], entries, inner.index, ENTRY)
                    _take(builder, step, planes, [lanes.spread(builder, one, LANES) for one in values], totals, bases)
                for pointer, target, total in zip(read, elements(out, outer.index), totals, strict=True):
                    found = builder.load(total)
                    if not has_base:
                        found = builder.fadd(load(builder, pointer, LANES), builder.fmul(wide, found))
                    store(builder, found, target)
            return context.get_dummy_value()

        return types.none(places, entries, types.uint64, types.uint64, types.float32, types.intp), codegen

    return intrinsic(typing)


def _take(builder: Any, step: Step, planes: list[Any], values: list[Any], totals: list[Any], bases: list[Any]) -> None:
    """What one expert adds to every total."""
    for plane in planes:
        lanes.fetch_ahead(builder, plane)
    for group, (total, base) in enumerate(zip(totals, bases, strict=True)):
        plus, minus = (mask_of(builder, plane, group) for plane in planes)
        chosen = builder.select(plus, values[0], builder.select(minus, values[1], values[2]))
        builder.store(step(builder, builder.load(total), chosen, values[3], base), total)


def _variable(builder: Any) -> Any:
    """−0.0 in every lane: whatever is added to it stays as it is, even 0.0 and −0.0."""
    zeros = ir.Constant(FLOATS, [-0.0] * LANES)
    return cgutils.alloca_once_value(builder, zeros)  # type: ignore[no-untyped-call]


def mask_of(builder: Any, plane: Any, group: int) -> Any:
    place = builder.bitcast(plane, BITS.as_pointer())
    word = builder.load(builder.gep(place, [ir.Constant(ir.IntType(64), group)]), align=1)
    return builder.bitcast(word, MASK)


def store_float32(builder: Any, value: Any, pointer: Any) -> None:
    lanes.store(builder, value, pointer, align=4)


add_bfloat16 = _summing(bfloat16_lanes.load, bfloat16_lanes.store, 2, _add)
add_weights_bfloat16 = _summing(bfloat16_lanes.load, bfloat16_lanes.store, 2, _add_weight)
add_float32 = _summing(lanes.load, store_float32, 4, _add)
add_weights_float32 = _summing(lanes.load, store_float32, 4, _add_weight)
