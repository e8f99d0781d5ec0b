"""A band of magnitudes: the entries between two thresholds, the largest and the smallest zeroed."""

import numpy as np

from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array, output
from kernels.dispatch import operation
from kernels.keep_band import cpu
from kernels.kth_magnitude.bins import kept_ties

Thresholds = tuple[Floats, Integers]
"""Magnitudes and cuts, one of each for each row, as `kernels.kth_magnitude` finds them."""


@operation
def keep_band(rows: Floats, lower: Thresholds, upper: Thresholds, start: int, out: Floats | None = None) -> Floats:
    """`rows` [ingredients, elements] where |x| reaches `lower` and does not reach `upper`, 0 elsewhere.

    An entry reaches a threshold when |x| > magnitude, or |x| == magnitude at a flat index up to the cut; the rows'
    first has index `start`. A magnitude of inf with a cut of −1 is reached by nothing. `out` may be `rows`.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    for magnitudes, cuts in (lower, upper):
        check_array("magnitudes", magnitudes, FLOAT32, rows.shape[:1])
        check_array("cuts", cuts, INT64, rows.shape[:1])
    out = output("out", out, FLOAT32, rows.shape)
    ties = [kept_ties(cuts, start, rows.shape[1]) for _, cuts in (lower, upper)]
    if out is not rows:
        np.copyto(out, rows)
    cpu.keep_band(out, lower[0], ties[0], upper[0], ties[1])
    return out
