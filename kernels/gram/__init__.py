"""Inner products of all pairs of models."""

import numpy as np
from numpy.typing import NDArray

from kernels.checks import FLOAT64, Doubles, check_array, output
from kernels.dispatch import operation
from kernels.gram import cpu
from kernels.stored_rows import Rows, table_of

BLOCK = 16384
"""Elements a partial covers. Chunks that start at multiples of it give the same partials as the whole."""

BOOL = np.dtype(np.bool_)
NO_MASK = np.empty(0, np.bool_)


@operation
def gram(stack: Rows, out: Doubles | None = None) -> Doubles:
    """⟨x_i, x_j⟩ of each BLOCK consecutive elements: float64 [blocks, models, models] from float32 [models, elements].

    The last block may be shorter; no elements give no blocks. Products are exact in float64 and added in an
    order that depends on nothing but the position within the block; add the blocks in order for the total.
    """
    table, models, size = table_of("stack", stack)
    out = output("out", out, FLOAT64, (-(-size // BLOCK), models, models))
    cpu.gram(table, size, BLOCK, out)
    return out


@operation
def squares(stack: Rows, mask: NDArray[np.bool_] | None = None, out: Doubles | None = None) -> Doubles:
    """Σ x_i² of each BLOCK consecutive elements: float64 [blocks, models], the diagonals of `gram` to the bit.

    With a `mask`, bool [elements], of the elements marked there.
    """
    table, models, size = table_of("stack", stack)
    if mask is not None:
        check_array("mask", mask, BOOL, (size,))
    out = output("out", out, FLOAT64, (-(-size // BLOCK), models))
    cpu.squares(table, size, NO_MASK if mask is None else mask, BLOCK, out)
    return out


@operation
def row_gram(stack: Rows, columns: int) -> Doubles:
    """⟨x_i, x_j⟩ of each row: float64 [rows, models, models] from float32 [models, rows · columns], at least 1 column.

    Added as `gram` adds a block, so a row's products are the same in whatever chunk it comes.
    """
    table, models, size = table_of("stack", stack)
    if columns < 1 or size % columns:
        raise ValueError(f"stack: found {size} elements, expected whole rows of {columns}")
    out = np.empty((size // columns, models, models))
    cpu.gram(table, size, columns, out)
    return out
