"""The elements that have a certain bit, where few do: 64 at a time are passed by."""

from typing import Any

import numpy as np

from kernels.checks import Integers
from kernels.compiled import uncounted
from kernels.lanes import marks_of, trailing_zeros

LANES = 64


@uncounted
def marked(values: Any, bit: Any, places: Integers) -> int:
    """Fill `places` with where uint16 `values` have `bit`, as far as there is room; returns how many.

    `values` is the beginning of an array whose memory goes on to a multiple of LANES.
    """
    found = 0
    for lo in range(0, values.size, LANES):
        marks = marks_of(values, lo, bit)
        while marks != np.uint64(0) and found < places.size:
            place = lo + trailing_zeros(marks)
            if place >= values.size:
                break
            places[found] = place
            marks &= marks - np.uint64(1)
            found += 1
    return found
