"""How far models are apart in each element."""

from kernels.checks import FLOAT32, Floats, output
from kernels.dispatch import operation
from kernels.spread import cpu
from kernels.stored_rows import Rows, table_of


@operation
def spread(rows: Rows, out: Floats | None = None) -> Floats:
    """√(T Σx² − (Σx)²) over T models, which is T standard deviations: float32 [elements] from [models, elements].

    Summed in float64, models in order, rounded once; exact sums where x are small multiples of a power of two, so
    that the order of models does not matter there. A NaN or infinity gives NaN.
    """
    table, models, size = table_of("rows", rows)
    out = output("out", out, FLOAT32, (size,))
    cpu.spread(table, models, out)
    return out
