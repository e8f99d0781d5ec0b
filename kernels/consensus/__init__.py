"""Sums of task vectors at the entries that enough tasks call their own.

Wang et al., "Localizing Task Information for Improved Model Merging and Compression", 2024,
https://arxiv.org/abs/2405.07813, sections 4 and 5.
"""

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.consensus import cpu
from kernels.dispatch import operation


@operation
def consensus(
    rows: Floats, weights: Floats, mask_scales: Floats, fewest_owners: int, out: Floats | None = None
) -> Floats:
    """Σ v_t, v_t = w_t x_t, where at least `fewest_owners` tasks own the entry, 0 elsewhere: float32 [elements].

    Task t owns an entry where |v_t| > mask_scales[t] · |Σ v − v_t|. `rows` is float32 [tasks, elements]; tasks in
    order, every operation rounded to float32.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    check_array("weights", weights, FLOAT32, rows.shape[:1])
    check_array("mask_scales", mask_scales, FLOAT32, rows.shape[:1])
    out = output("out", out, FLOAT32, rows.shape[1:])
    cpu.consensus(rows, weights, mask_scales, fewest_owners, out)
    return out
