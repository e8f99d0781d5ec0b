"""How far models are apart in each element."""

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.dispatch import operation
from kernels.spread import cpu


@operation
def spread(rows: Floats, out: Floats | None = None) -> Floats:
    """√(T Σx² − (Σx)²) over T models, which is T standard deviations: float32 [elements] from [models, elements].

    Summed in float64, models in order, rounded once; exact sums where x are small multiples of a power of two, so
    that the order of models does not matter there. A NaN or infinity gives NaN.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    out = output("out", out, FLOAT32, rows.shape[1:])
    cpu.spread(rows, out)
    return out
