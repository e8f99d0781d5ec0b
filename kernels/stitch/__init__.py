"""Task vectors put together from the entries that each calls its own, shared entries averaged.

He et al., "Localize-and-Stitch", 2024, https://arxiv.org/abs/2408.13656, section 3.
"""

from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array, output
from kernels.dispatch import operation
from kernels.kth_magnitude.bins import kept_ties
from kernels.stitch import cpu


@operation
def stitch(
    rows: Floats, weights: Floats, magnitudes: Floats, cuts: Integers, start: int, out: Floats | None = None
) -> Floats:
    """Σ w_t x_t over the tasks that own an entry, divided by their number, 0 where none does: float32 [elements].

    Task t owns an entry where |x_t| > magnitude, or |x_t| == magnitude at a flat index up to the cut, as
    `kernels.kth_magnitude` finds them; `rows` [tasks, elements] starts at index `start`. An owned entry that is 0
    counts. Tasks in order, every operation rounded to float32.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    for name, array, dtype in (
        ("weights", weights, FLOAT32),
        ("magnitudes", magnitudes, FLOAT32),
        ("cuts", cuts, INT64),
    ):
        check_array(name, array, dtype, rows.shape[:1])
    out = output("out", out, FLOAT32, rows.shape[1:])
    cpu.stitch(rows, weights, magnitudes, kept_ties(cuts, start, rows.shape[1]), out)
    return out
