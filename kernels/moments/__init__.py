"""Sums of a tensor's entries and of those beyond a threshold: what a compressor must know of what it keeps."""

import numpy as np

from kernels.checks import FLOAT32, FLOAT64, Doubles, Floats, check_array, output
from kernels.dispatch import operation
from kernels.gram import BLOCK
from kernels.moments import cpu

SUM, SQUARES, TIES, SIGNED_TIES, BEYOND, SIZES_BEYOND, SIGNED_BEYOND = range(7)
"""Σx, Σx²; of entries with |x| == magnitude their number and Σ sign(x); of larger ones their number, Σ|x| and Σx."""
COLUMNS = 7


@operation
def moments(x: Floats, magnitude: float, out: Doubles | None = None) -> Doubles:
    """The sums over each BLOCK consecutive elements: float64 [blocks, COLUMNS] from float32 [elements].

    As with `kernels.gram`, chunks that start at multiples of BLOCK give the same rows as the whole, and an order of
    addition that depends on nothing but the position within the block.
    """
    check_array("x", x, FLOAT32, (None,))
    out = output("out", out, FLOAT64, (-(-x.size // BLOCK), COLUMNS))
    cpu.moments(x, np.float32(magnitude), BLOCK, out)
    return out
