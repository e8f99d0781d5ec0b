"""How strongly each parameter of each task competes, within its task and with the other tasks.

Du et al., "Parameter Competition Balancing for Model Merging", 2024, https://arxiv.org/abs/2410.02396,
section 3.2.
"""

import numpy as np

from kernels.checks import FLOAT32, INT64, Floats, Integers, check_array, output
from kernels.competition import cpu
from kernels.dispatch import operation
from kernels.kth_magnitude.bins import BINS
from kernels.stored_rows import Rows, table_of

Span = tuple[Floats, Floats]
"""The smallest and the largest value of each task."""


@operation
def balance(rows: Rows, clamp: Span, out: Floats | None = None) -> Floats:
    """β = exp(T·(m² − 1)) · tanh(x_t · Σ x): float32 [tasks, elements] from float32 `rows` of that shape.

    m is |x_t| held within `clamp` and brought to [0, 1], 0 where `clamp` is a single value. The paper's β is
    larger by a factor of e^T, which its normalisation takes out again; here it cannot overflow. Sums and functions
    are in float64, from series that give the same bits on any machine, rounded to float32 once. An exponent
    below −87 counts as −87.
    """
    table, tasks, size = table_of("rows", rows)
    _check_span(clamp, tasks)
    out = output("out", out, FLOAT32, (tasks, size))
    cpu.balance(table, *clamp, out)
    return out


@operation
def balance_histogram(
    rows: Rows, clamp: Span, prefixes: Integers | None = None, out: Integers | None = None
) -> Integers:
    """`kth_magnitude.magnitude_histogram` of the positive part of each row of β, then of each negative part.

    Where β has the other sign its part is 0. Without `prefixes` the histograms of round 0, int64 [1, 2 · tasks, bins];
    with them, int64 [searches, 2 · tasks], those of round 1 for each search. `out` is added to.
    """
    table, tasks, size = table_of("rows", rows)
    _check_span(clamp, tasks)
    round_ = 0 if prefixes is None else 1
    prefixes = np.zeros((1, 2 * tasks), np.int64) if prefixes is None else prefixes
    check_array("prefixes", prefixes, INT64, (None, 2 * tasks))
    shape = len(prefixes), 2 * tasks, BINS[round_]
    out = np.zeros(shape, np.int64) if out is None else out
    check_array("out", out, INT64, shape)
    cpu.count_by_sign(table, size, *clamp, round_, prefixes, out)
    return out


@operation
def compete(rows: Rows, weights: Floats, clamp: Span, betas: Span, out: Floats | None = None) -> Floats:
    """Σ w_t x̃_t s_t / Σ s_t, 0 where no task has a share: float32 [elements].

    x̃ is x with |x| held within `clamp`; s is β held within `betas` and brought to [0, 1]; where `betas` is a
    single value s is 1 for a positive β that reaches it, else 0. Tasks in order, every operation after β rounded
    to float32.
    """
    table, tasks, size = table_of("rows", rows)
    check_array("weights", weights, FLOAT32, (tasks,))
    _check_span(clamp, tasks)
    _check_span(betas, tasks)
    out = output("out", out, FLOAT32, (size,))
    cpu.compete(table, weights, *clamp, *betas, out)
    return out


def _check_span(span: Span, tasks: int) -> None:
    for array in span:
        check_array("span", array, FLOAT32, (tasks,))
