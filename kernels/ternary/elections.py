"""Elections of signed values in registers: as `kernels.ternary.sums` adds up, but votes first, then what agrees.

Planes are given so that a set bit of an expert's first one votes for +. All that agrees has the elected sign, so the
merge is that sign times a sum of values, whatever the order: rounding is symmetric.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from kernels import bfloat16_lanes, lanes
from kernels.ternary.sums import BLOCK, BYTE, FLOATS, IS_WIDE, LANES, mask_of, store_float32

GROUPS, WORD_GROUPS = (8, 4) if IS_WIDE else (4, 1)
"""Groups of lanes whose sums and shares are in registers at once, and those in a word of bits.

Where there are no mask registers, taking a long word apart costs more than all the rest.
"""
WORD = ir.IntType(LANES * WORD_GROUPS)
BITS = ir.VectorType(ir.IntType(1), LANES * WORD_GROUPS)
BALLOT, VALUE, SHARE, ENTRY = 0, 1, 2, 3
"""What is known of an expert: how much its vote counts, what it adds where it agrees, and its part of the divisor."""


def _electing(load: Any, store: Any, nbytes: int, divides: bool) -> Any:
    """`blocks` blocks of out = base + scale · merged; where votes cancel, `zero_vote_sign` is elected.

    `places` is uint64 [experts, 2], the planes' addresses, and `entries` float32 [experts, ENTRY]; the elements of
    `base` and `out`, both addresses, take `nbytes` each.
    """

    def typing(
        _context: Any, places: Any, entries: Any, _sign: Any, _base: Any, _out: Any, _scale: Any, _blocks: Any
    ) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            places, entries, sign, base, out, scale, blocks = args
            number = blocks.type
            experts = builder.extract_value(context.make_array(signature.args[1])(context, builder, entries).shape, 0)

            def known(kind: Any, array: Any, expert: Any, count: int) -> list[Any]:
                first = lanes.address(context, builder, kind, array, builder.mul(expert, number(count)))
                return [builder.load(builder.gep(first, [number(i)])) for i in range(count)]

            def planes_of(expert: Any, block: Any) -> list[Any]:
                at = builder.mul(block, number(GROUPS * LANES // 8))
                addresses = known(signature.args[0], places, expert, 2)
                return [builder.gep(builder.inttoptr(address, BYTE), [at]) for address in addresses]

            def values_of(expert: Any) -> list[Any]:
                return [lanes.spread(builder, one, LANES) for one in known(signature.args[1], entries, expert, ENTRY)]

            with cgutils.for_range(builder, builder.mul(blocks, number(BLOCK // LANES // GROUPS))) as outer:
                votes, totals, shares = ([_variable(builder) for _ in range(GROUPS)] for _ in range(3))
                with cgutils.for_range(builder, experts) as inner:
                    _vote(builder, planes_of(inner.index, outer.index), values_of(inner.index)[BALLOT], votes)
                elected = _elected(builder, votes, sign)
                with cgutils.for_range(builder, experts) as inner:
                    values = values_of(inner.index)
                    _merge(builder, planes_of(inner.index, outer.index), elected, values, totals, shares)
                for group in range(GROUPS):
                    place = builder.mul(
                        builder.add(builder.mul(outer.index, number(GROUPS)), number(group)), number(LANES * nbytes)
                    )
                    source, target = (builder.gep(builder.inttoptr(address, BYTE), [place]) for address in (base, out))
                    merged = _signed(builder, totals[group], _group(builder, elected[1], group))
                    if divides:
                        merged = _divided(builder, merged, builder.load(shares[group]))
                    added = builder.fmul(lanes.spread(builder, scale, LANES), merged)
                    store(builder, builder.fadd(load(builder, source, LANES), added), target)
            return context.get_dummy_value()

        arguments = types.float32, types.uint64, types.uint64, types.float32, types.intp
        return types.none(places, entries, *arguments), codegen

    return intrinsic(typing)


def _vote(builder: Any, planes: list[Any], ballot: Any, votes: list[Any]) -> None:
    for plane in planes:
        lanes.fetch_ahead(builder, plane)
    for group, vote in enumerate(votes):
        plus, minus = (mask_of(builder, plane, group) for plane in planes)
        against = builder.select(minus, builder.fneg(ballot), ZEROS)
        builder.store(builder.fadd(builder.load(vote), builder.select(plus, ballot, against)), vote)


def _elected(builder: Any, votes: list[Any], sign: Any) -> tuple[list[Any], list[Any]]:
    """Words of bits: the elements that elect +, and those that elect −."""
    up = _words(builder, [builder.fcmp_ordered(">", builder.load(vote), ZEROS) for vote in votes])
    down = _words(builder, [builder.fcmp_ordered("<", builder.load(vote), ZEROS) for vote in votes])
    zero = lanes.FLOAT(0.0)
    is_up, is_down = builder.fcmp_ordered(">", sign, zero), builder.fcmp_ordered("<", sign, zero)
    return (
        [builder.select(is_up, builder.not_(n), p) for p, n in zip(up, down, strict=True)],
        [builder.select(is_down, builder.not_(p), n) for p, n in zip(up, down, strict=True)],
    )


def _words(builder: Any, masks: list[Any]) -> list[Any]:
    return [_word(builder, masks[first : first + WORD_GROUPS]) for first in range(0, len(masks), WORD_GROUPS)]


def _word(builder: Any, masks: list[Any]) -> Any:
    while len(masks) > 1:
        masks = [_joined(builder, *masks[first : first + 2]) for first in range(0, len(masks), 2)]
    return builder.bitcast(masks[0], WORD)


def _joined(builder: Any, first: Any, second: Any) -> Any:
    count = 2 * first.type.count
    return builder.shuffle_vector(first, second, ir.Constant(ir.VectorType(ir.IntType(32), count), list(range(count))))


def _group(builder: Any, words: list[Any], group: int) -> Any:
    """The bits of one group of lanes."""
    bits, first = builder.bitcast(words[group // WORD_GROUPS], BITS), group % WORD_GROUPS * LANES
    places = ir.Constant(ir.VectorType(ir.IntType(32), LANES), list(range(first, first + LANES)))
    return builder.shuffle_vector(bits, ir.Constant(BITS, ir.Undefined), places)


def _merge(
    builder: Any, planes: list[Any], elected: tuple[list[Any], list[Any]], values: list[Any], totals: Any, shares: Any
) -> None:
    """The expert's value and share where its entry has the elected sign."""
    agreeing = []
    for place, signs in enumerate(zip(*elected, strict=True)):
        own = [
            builder.load(builder.gep(builder.bitcast(plane, WORD.as_pointer()), [ir.IntType(64)(place)]), align=1)
            for plane in planes
        ]
        agreeing.append(builder.or_(*(builder.and_(bits, sign) for bits, sign in zip(own, signs, strict=True))))
    for group, (total, share) in enumerate(zip(totals, shares, strict=True)):
        agrees = _group(builder, agreeing, group)
        for sums, value in ((total, values[VALUE]), (share, values[SHARE])):
            so_far = builder.load(sums)
            builder.store(builder.select(agrees, builder.fadd(so_far, value), so_far), sums)


def _signed(builder: Any, total: Any, is_minus: Any) -> Any:
    """0 − total rather than −total: a sum that cancels is 0.0 whatever the sign."""
    found = builder.load(total)
    return builder.select(is_minus, builder.fsub(ZEROS, found), found)


def _divided(builder: Any, merged: Any, share: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", share, ZEROS), builder.fdiv(merged, share), ZEROS)


ZEROS = ir.Constant(FLOATS, [0.0] * LANES)


def _variable(builder: Any) -> Any:
    return lanes.variable(builder, lanes.FLOAT, LANES)


mean_bfloat16 = _electing(bfloat16_lanes.load, bfloat16_lanes.store, 2, divides=True)
sum_bfloat16 = _electing(bfloat16_lanes.load, bfloat16_lanes.store, 2, divides=False)
mean_float32 = _electing(lanes.load, store_float32, 4, divides=True)
sum_float32 = _electing(lanes.load, store_float32, 4, divides=False)
