"""Competition in plain torch: the definition. torch's own exp and tanh may differ in the last bit of float32."""

import torch
from torch import Tensor

from kernels.kth_magnitude.reference import magnitude_histogram

SMALLEST_EXPONENT = -87.0


def balance(rows: Tensor, clamp: tuple[Tensor, Tensor], out: Tensor | None = None) -> Tensor:
    low, high = (limit.double()[:, None] for limit in clamp)
    exact = rows.double()
    held = exact.abs().clamp(low, high)
    place = torch.where(high > low, (held - low) / (high - low), 0.0)
    within = (len(rows) * (place.square() - 1)).clamp(min=SMALLEST_EXPONENT).exp()
    result = (within * torch.tanh(exact * exact.sum(dim=0))).float()
    return result if out is None else out.copy_(result)


def balance_histogram(
    rows: Tensor, clamp: tuple[Tensor, Tensor], prefixes: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """Histograms of β's positive parts and of its negative parts."""
    beta = balance(rows, clamp)
    parts = torch.cat([beta.clamp(min=0), (-beta).clamp(min=0)])
    if prefixes is None:
        counts = magnitude_histogram(parts, 0)[None]
    else:
        counts = torch.stack([magnitude_histogram(parts, 1, its_prefixes) for its_prefixes in prefixes])
    return counts if out is None else out.add_(counts)


def compete(
    rows: Tensor,
    weights: Tensor,
    clamp: tuple[Tensor, Tensor],
    betas: tuple[Tensor, Tensor],
    out: Tensor | None = None,
) -> Tensor:
    """Du et al. 2024, equations 4 to 6, on a β that the caller has ranked."""
    low, high, floor, top = (limit[:, None] for limit in (*clamp, *betas))
    beta = balance(rows, clamp)
    ranked = (torch.minimum(torch.maximum(beta, floor), top) - floor) / (top - floor)
    shares = torch.where(top > floor, ranked, ((beta >= top) & (beta > 0)).float())
    values = rows.sign() * torch.minimum(torch.maximum(rows.abs(), low), high)
    total, divisor = torch.zeros_like(rows[0]), torch.zeros_like(rows[0])
    for value, weight, share in zip(values, weights, shares, strict=True):
        total, divisor = total + weight * value * share, divisor + share
    result = torch.where(divisor > 0, total / divisor, 0.0)
    return result if out is None else out.copy_(result)
