"""Σ w_t x_t over a stack of models."""

from kernels.checks import FLOAT32, Floats, check_array, output
from kernels.dispatch import operation
from kernels.weighted_sum import cpu


@operation
def weighted_sum(stack: Floats, weights: Floats, out: Floats | None = None) -> Floats:
    """((w₀x₀ + w₁x₁) + w₂x₂) + …: float32 [elements] from float32 [models, elements] and [models].

    Models in order, every product and every sum rounded to float32 on its own. `out` must not overlap
    `stack`. At least one model.
    """
    check_array("stack", stack, FLOAT32, (None, None))
    models, size = stack.shape
    if models == 0:
        raise ValueError("stack: found 0 models, expected at least 1")
    check_array("weights", weights, FLOAT32, (models,))
    out = output("out", out, FLOAT32, (size,))
    cpu.weighted_sum(stack, weights, out)
    return out
