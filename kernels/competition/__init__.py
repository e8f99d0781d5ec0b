"""How strongly each parameter of each task competes, within its task and with the other tasks.

Du et al., "Parameter Competition Balancing for Model Merging", 2024, https://arxiv.org/abs/2410.02396,
section 3.2.
"""

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.competition import cpu
from kernels.dispatch import operation

Span = tuple[Floats, Floats]
"""The smallest and the largest value of each task."""


@operation
def balance(rows: Floats, clamp: Span, out: Floats | None = None) -> Floats:
    """β = exp(T·(m² − 1)) · tanh(x_t · Σ x): float32 [tasks, elements] from float32 `rows` of that shape.

    m is |x_t| held within `clamp` and brought to [0, 1], 0 where `clamp` is a single value. The paper's β is
    larger by a factor of e^T, which its normalisation takes out again; here it cannot overflow. Sums and functions
    are in float64, from series that give the same bits on any machine, rounded to float32 once. An exponent
    below −87 counts as −87.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    _check_span(clamp, len(rows))
    out = output("out", out, FLOAT32, rows.shape)
    cpu.balance(rows, *clamp, out)
    return out


@operation
def compete(rows: Floats, weights: Floats, clamp: Span, betas: Span, out: Floats | None = None) -> Floats:
    """Σ w_t x̃_t s_t / Σ s_t, 0 where no task has a share: float32 [elements].

    x̃ is x with |x| held within `clamp`; s is β held within `betas` and brought to [0, 1]; where `betas` is a
    single value s is 1 for a positive β that reaches it, else 0. Tasks in order, every operation after β rounded
    to float32.
    """
    check_array("rows", rows, FLOAT32, (None, None))
    check_array("weights", weights, FLOAT32, rows.shape[:1])
    _check_span(clamp, len(rows))
    _check_span(betas, len(rows))
    out = output("out", out, FLOAT32, rows.shape[1:])
    cpu.compete(rows, weights, *clamp, *betas, out)
    return out


def _check_span(span: Span, tasks: int) -> None:
    for array in span:
        check_array("span", array, FLOAT32, (tasks,))
