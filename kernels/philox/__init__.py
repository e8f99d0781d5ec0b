"""Random numbers that are a pure function of where they are used.

Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011,
https://doi.org/10.1145/2063384.2063405. Nothing is stored between calls, so any chunk may be drawn on any
thread or device.
"""

import numpy as np

from kernels.checks import FLOAT32, Floats, output
from kernels.dispatch import operation
from kernels.philox import cpu
from kernels.philox.stream import MOST_ELEMENTS, stream_of


@operation
def uniform(seed: int, stream: str, ingredient: int, start: int, out: Floats) -> Floats:
    """Fill `out`, float32 [elements], with draws from [0, 1) for flat elements [start, start + len(out)).

    The draw of an element depends on (seed, stream, ingredient, element index) alone; `stream` is the tensor's
    name. Multiples of 2^-24: the upper 24 bits of its Philox word. Seeds are below 2^64, ingredients below 2^16.
    """
    output("out", out, FLOAT32, out.shape[:1])
    if not 0 <= start <= MOST_ELEMENTS - out.size:
        raise ValueError(f"start: found {start}, expected 0 to {MOST_ELEMENTS - out.size}")
    words = np.array(stream_of(seed, stream, ingredient), np.uint64)
    cpu.uniform(words, start, out)
    return out
