"""Inner products of all pairs of models."""

import numpy as np

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


@operation
def row_gram(stack: Floats, columns: int) -> Doubles:
    """⟨x_i, x_j⟩ of each row: float64 [rows, models, models] from float32 [models, rows · columns], at least 1 column.

    Added as `gram` adds a block, so a row's products are the same in whatever chunk it comes.
    """
    check_array("stack", stack, FLOAT32, (None, None))
    models, size = stack.shape
    if columns < 1 or size % columns:
        raise ValueError(f"stack: found {size} elements, expected whole rows of {columns}")
    out = np.empty((size // columns, models, models))
    cpu.gram(stack, columns, out)
    return out
