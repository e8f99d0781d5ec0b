"""Means over the models that changed an entry at all: what one alone has learnt is not averaged away.

Yuan et al., "Reinforced Agent Merging", 2026, https://arxiv.org/abs/2601.13572.
"""

import numpy as np

from kernels.changed_mean import cpu
from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array, output
from kernels.dispatch import operation
from kernels.stored_rows import Rows, table_of


@operation
def changed_mean(rows: Rows, epsilon: float, gains: Floats | None = None, out: Floats | None = None) -> Floats:
    """Σ x_t / number over the x_t with |x_t| > epsilon, 0 where there is none: float32 [elements].

    An entry that one model t alone changed is gains[t]·x_t, float32 [models]. `epsilon` is taken as float32; a NaN
    counts as changed. Models in order, every operation rounded to float32.
    """
    table, models, size = table_of("rows", rows)
    gains = np.ones(models, np.float32) if gains is None else gains
    check_array("gains", gains, FLOAT32, (models,))
    out = output("out", out, FLOAT32, (size,))
    cpu.changed_mean(table, np.float32(epsilon), gains, out)
    return out


@operation
def changed_counts(rows: Rows, epsilon: float, out: Integers | None = None) -> Integers:
    """How many entries each model changed together with another, and how many alone: int64 [models, 2].

    `out` is added to, so one array serves many chunks.
    """
    table, models, size = table_of("rows", rows)
    out = np.zeros((models, 2), np.int64) if out is None else out
    check_array("out", out, INT64, (models, 2))
    cpu.changed_counts(table, size, np.float32(epsilon), out)
    return out
