"""Inner products of all pairs of models."""

from kernels.checks import FLOAT32, FLOAT64, Doubles, Floats, check_array, output
from kernels.dispatch import operation
from kernels.gram import cpu

BLOCK = 16384
"""Elements a partial covers. Chunks that start at multiples of it give the same partials as the whole."""


@operation
def gram(stack: Floats, out: Doubles | None = None) -> Doubles:
    """⟨x_i, x_j⟩ of each BLOCK consecutive elements: float64 [blocks, models, models] from float32 [models, elements].

    The last block may be shorter; no elements give no blocks. Products are exact in float64 and added in an
    order that depends on nothing but the position within the block; add the blocks in order for the total.
    """
    check_array("stack", stack, FLOAT32, (None, None))
    models, size = stack.shape
    out = output("out", out, FLOAT64, (-(-size // BLOCK), models, models))
    cpu.gram(stack, BLOCK, out)
    return out
