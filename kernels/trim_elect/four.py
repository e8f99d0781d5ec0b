"""Up to four models elected in one loop, so that votes and shares never leave the registers.

The same operations in the same order as model by model; a model that is missing weighs nothing.
"""

from typing import Any

import numpy as np

from kernels.bits import bits_of_float
from kernels.checks import Floats
from kernels.compiled import inlined, uncounted

FOUR = 4
ZERO, ONE = np.float32(0), np.float32(1)


@uncounted
def suits(models: int, how: int, elect: int) -> bool:
    """Whether `elect_four` can do it: no largest entry, and no votes that leave sizes out."""
    return models <= FOUR and how < 3 and elect < 2


@inlined
def _of_model(weights: Any, model: int, how: int, elect: int) -> Any:
    """Weight, ballot and share."""
    if model >= weights.size:
        return ZERO, ZERO, ZERO
    weight = weights[model]
    share = abs(weight) if how == 0 else (ONE if how == 1 else ZERO)
    return weight, weight if elect == 0 else ONE, share


@uncounted
def scales_of(weights: Floats, how: int, elect: int) -> Any:
    """Weight, ballot and share of each model: numbers, since an array takes 0.1 µs to have, for every stretch anew."""
    p, q = _of_model(weights, 0, how, elect), _of_model(weights, 1, how, elect)
    return p, q, _of_model(weights, 2, how, elect), _of_model(weights, 3, how, elect)


@inlined
def _kept(x: Any, limit: Any) -> Any:
    return x if np.uint32(bits_of_float(x) & np.uint32(0x7FFFFFFF)) >= limit else ZERO


@inlined
def _merged(entries: Any, scales: Any, first_share: Any, zero_vote_sign: Any) -> Any:
    a, b, c, d = entries
    (wp, bp, sp), (wq, bq, sq), (wr, br, sr), (ws, bs, ss) = scales
    va, vb, vc, vd = bp * a, bq * b, br * c, bs * d
    vote = ((va + vb) + vc) + vd
    sign = ONE if vote > ZERO else (-ONE if vote < ZERO else zero_vote_sign)
    ka, kb, kc, kd = va * sign > ZERO, vb * sign > ZERO, vc * sign > ZERO, vd * sign > ZERO
    total = ZERO + (wp * a if ka else ZERO)  # not −0, should the product be
    total = total + (wq * b if kb else ZERO)
    total = total + (wr * c if kc else ZERO)
    total = total + (ws * d if kd else ZERO)
    share = first_share + (sp if ka else ZERO)
    share = share + (sq if kb else ZERO)
    share = share + (sr if kc else ZERO)
    share = share + (ss if kd else ZERO)
    return total / share if share > ZERO else ZERO


@uncounted
def elect_four(rows: Floats, limits: Any, scales: Any, first_share: Any, zero_vote_sign: Any, out: Floats) -> None:
    """Of `rows` [at least 4, elements], entries whose bits reach the model's limit.

    What agrees is divided by its shares and `first_share`, which is 1 for a sum whose shares are 0.
    """
    p, q, r, s = rows[0], rows[1], rows[2], rows[3]
    lp, lq, lr, ls = limits[0], limits[1], limits[2], limits[3]
    for i in range(out.size):
        entries = _kept(p[i], lp), _kept(q[i], lq), _kept(r[i], lr), _kept(s[i], ls)
        out[i] = _merged(entries, scales, first_share, zero_vote_sign)


@uncounted
def elect_whole_four(rows: Floats, scales: Any, first_share: Any, zero_vote_sign: Any, out: Floats) -> None:
    """The same of all entries; those of a model that is missing are to be zeros."""
    p, q, r, s = rows[0], rows[1], rows[2], rows[3]
    for i in range(out.size):
        out[i] = _merged((p[i], q[i], r[i], s[i]), scales, first_share, zero_vote_sign)
