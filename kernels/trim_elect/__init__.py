"""The element-wise part of TIES, once the thresholds are known.

Yadav et al., "TIES-Merging", 2023, https://arxiv.org/abs/2306.01708, section 3.2.
"""

import numpy as np

from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array, check_choice, output
from kernels.dispatch import operation
from kernels.kth_magnitude.bins import kept_ties
from kernels.stored_rows import Rows, table_of
from kernels.trim_elect import cpu
from kernels.trim_elect.choices import ELECTS, HOWS, Elect, How

__all__ = ["ELECTS", "HOWS", "Elect", "How", "sign_balance", "trim_elect"]


@operation
def trim_elect(
    deltas: Rows,
    weights: Floats,
    magnitudes: Floats,
    cuts: Integers,
    start: int,
    how: How = "mean",
    elect: Elect = "weighted",
    zero_vote_sign: int = 0,
    out: Floats | None = None,
) -> Floats:
    """The merged delta, float32 [elements], of `deltas` [models, elements] whose first has flat index `start`.

    Trim: τ̂ is τ where |τ| > magnitude, or |τ| == magnitude at a flat index up to the cut; else 0.
    Elect: the sign of Σ w·τ̂ (weighted), of Σ τ̂ (unweighted) or of Σ sign(τ̂) (frequency); where that is
    zero, `zero_vote_sign`: 0 means nothing agrees and the result is 0; the original takes the sign that
    `sign_balance` finds in the whole model, PEFT +1.
    Merge: an entry agrees when its own vote has the elected sign. mean = Σ w·τ̂ / Σ |w|, count = Σ w·τ̂ / their
    number (PEFT), sum = Σ w·τ̂, max = the w·τ̂ of largest magnitude; each over the agreeing, 0 where none agrees.
    Models in order, every operation rounded to float32.
    """
    check_choice("how", how, HOWS)
    if zero_vote_sign not in (-1, 0, 1):
        raise ValueError(f"zero_vote_sign: found {zero_vote_sign}, expected -1, 0 or 1")
    table, ties = _checked(deltas, weights, magnitudes, cuts, start, elect)
    out = output("out", out, FLOAT32, deltas.shape[1:])
    sign = np.float32(zero_vote_sign)
    cpu.trim_elect(table, weights, magnitudes, ties, HOWS.index(how), ELECTS.index(elect), sign, out)
    return out


@operation
def sign_balance(
    deltas: Rows, weights: Floats, magnitudes: Floats, cuts: Integers, start: int, elect: Elect = "weighted"
) -> Integers:
    """How many more elements elect + than −: int64 [1], to be added over chunks. Zero votes count for neither."""
    table, ties = _checked(deltas, weights, magnitudes, cuts, start, elect)
    return np.array([cpu.sign_balance(table, deltas.shape[1], weights, magnitudes, ties, ELECTS.index(elect))])


def _checked(
    deltas: Rows, weights: Floats, magnitudes: Floats, cuts: Integers, start: int, elect: Elect
) -> tuple[Integers, Integers]:
    """The table of addresses, and how many first elements of the run keep their ties."""
    check_choice("elect", elect, ELECTS)
    table, models, size = table_of("deltas", deltas)
    for name, array, dtype in (
        ("weights", weights, FLOAT32),
        ("magnitudes", magnitudes, FLOAT32),
        ("cuts", cuts, INT64),
    ):
        check_array(name, array, dtype, (models,))
    return table, kept_ties(cuts, start, size)
