"""Where magnitudes lie about two windows, counted lane by lane.

Masks of comparisons cost as much as the comparisons where a processor has no registers for them, as with AVX2: here
they are added up as they are, and only those of the few magnitudes inside a window leave the vectors. numba's disk
cache watches a kernel's own file only: after a change here, remove `kernels/**/__pycache__`.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import lanes

GROUP = 64
"""Elements whose marks are one word."""

NUMBER = ir.IntType(32)
WORD = ir.IntType(64)
FIVE = types.UniTuple(types.uint32, 5)  # type: ignore[no-untyped-call]
BELOW, WITHIN = ("low", "past_low", "high", "past_high"), ("low", "high")


def _tally(_context: Any, row: Any, marks: Any, _low: Any, _past_low: Any, _high: Any, _past_high: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(NUMBER, _lanes(context))
        ends = dict(zip(BELOW, args[2:], strict=True))
        # A magnitude has 31 bits: as signed integers they compare in one instruction, and none is beyond the limit.
        limits = {name: _limit(builder, end, vector) for name, end in ends.items()}
        equals = {name: lanes.everywhere(builder, ends[name], vector) for name in WITHIN}
        totals = {name: _variable(builder, vector) for name in ("above", "between", "low", "high", "largest")}
        count = lanes.length(context, builder, signature.args[1], args[1])
        with cgutils.for_range(builder, count) as loop:
            first, found = builder.mul(loop.index, WORD(GROUP)), WORD(0)
            for lane in range(0, GROUP, vector.count):
                place = lanes.address(context, builder, signature.args[0], args[0], builder.add(first, WORD(lane)))
                inside = _count(builder, _magnitudes(builder, place, vector), limits, equals, totals)
                found = builder.or_(found, builder.shl(_mask(builder, inside), WORD(lane)))
            builder.store(found, lanes.address(context, builder, signature.args[1], args[1], loop.index))
        sums = [_reduced(builder, "add", totals[name]) for name in ("above", "between", "low", "high")]
        sums.append(_reduced(builder, "smax", totals["largest"]))
        return context.make_tuple(builder, signature.return_type, sums)

    number = types.uint32
    return FIVE(row, marks, number, number, number, number), codegen


def _lanes(context: Any) -> int:
    """As many as a register has: counts and limits of more would not fit into them."""
    _, _, features = context.codegen().magic_tuple()
    return 16 if "+avx512f" in features else 8


def _count(builder: Any, values: Any, limits: Any, equals: Any, totals: Any) -> Any:
    """Add magnitudes to the totals; which of them are inside a window and not its smallest."""
    from_low, past_low, from_high, past_high = (builder.icmp_signed(">", values, limits[name]) for name in BELOW)
    at_low, at_high = (builder.icmp_signed("==", values, equals[name]) for name in WITHIN)
    between = builder.xor(past_low, from_high)
    for name, found in (("above", past_high), ("between", between), ("low", at_low), ("high", at_high)):
        builder.store(builder.sub(builder.load(totals[name]), builder.sext(found, values.type)), totals[name])
    largest = builder.load(totals["largest"])
    is_larger = builder.icmp_signed(">", values, largest)
    builder.store(builder.select(is_larger, values, largest), totals["largest"])
    # Each window ends after it begins, and before the next: those that reach one end reach all before it.
    inside = builder.xor(builder.xor(from_low, past_high), between)
    return builder.and_(inside, builder.not_(builder.or_(at_low, at_high)))


def _limit(builder: Any, end: Any, vector: Any) -> Any:
    """What those that reach `end` are above, in every lane."""
    most = NUMBER(1 << 31)
    bounded = builder.select(builder.icmp_unsigned("<", end, most), end, most)
    return lanes.everywhere(builder, builder.sub(bounded, NUMBER(1)), vector)


def _magnitudes(builder: Any, place: Any, vector: Any) -> Any:
    values = builder.load(builder.bitcast(place, vector.as_pointer()), align=4)
    return builder.and_(values, ir.Constant(vector, [0x7FFFFFFF] * vector.count))


def _mask(builder: Any, found: Any) -> Any:
    return builder.zext(builder.bitcast(found, ir.IntType(found.type.count)), WORD)


def _variable(builder: Any, vector: Any) -> Any:
    return cgutils.alloca_once_value(builder, ir.Constant(vector, [0] * vector.count))  # type: ignore[no-untyped-call]


def _reduced(builder: Any, how: str, total: Any) -> Any:
    value = builder.load(total)
    kind = ir.FunctionType(NUMBER, [value.type])
    name = f"llvm.vector.reduce.{how}.v{value.type.count}i32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [value])  # type: ignore[no-untyped-call]


tally: Any = intrinsic(_tally)
"""(float32 array, uint64 marks, low, past_low, high, past_high) → above, between, low, high, largest, uint32 each.

The ends are bits of magnitudes, each window's first and the first after it, windows in rising order. Counted of 64
elements for each of `marks` are those that reach `past_high`, that reach `past_low` and not `high`, and that equal
`low` or `high`; `largest` are the bits of the largest magnitude. `marks` are filled with which of the others are inside
a window, the first element in the lowest bit.
"""
