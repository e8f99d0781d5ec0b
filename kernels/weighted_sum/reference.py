"""The weighted sum in plain torch: the definition."""

from torch import Tensor


def weighted_sum(stack: Tensor, weights: Tensor, out: Tensor | None = None) -> Tensor:
    total = weights[0] * stack[0]
    for row, weight in zip(stack[1:], weights[1:], strict=True):
        total = total + weight * row
    return total if out is None else out.copy_(total)
