"""Trim, elect, merge in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.trim_elect.choices import Elect, How, Merge
from kernels.weighted_sum.reference import weighted_sum


def trim_elect(
    deltas: Tensor,
    weights: Tensor,
    magnitudes: Tensor,
    cuts: Tensor,
    start: int,
    how: How = "mean",
    elect: Elect = "weighted",
    zero_vote_sign: int = 0,
    out: Tensor | None = None,
) -> Tensor:
    kept = trim(deltas, magnitudes, cuts, start)
    signs = elected_signs(kept, weights, elect, zero_vote_sign)
    total, divisor = torch.zeros_like(signs), torch.zeros_like(signs)
    for row, weight in zip(kept, weights, strict=True):
        value = weight * row
        agrees = (value if elect == "weighted" else row) * signs > 0
        if how == "max":
            total = torch.where(agrees & (value.abs() > total.abs()), value, total)
        else:
            total = total + torch.where(agrees, value, 0.0)
            divisor = divisor + torch.where(agrees, weight.abs() if how == "mean" else 1.0, 0.0)
    if how in ("mean", "count"):
        total = torch.where(divisor > 0, total / divisor, 0.0)
    return total if out is None else out.copy_(total)


def combine(rows: Tensor, weights: Tensor, merge: Merge, elect: Elect, zero_vote_sign: int) -> Tensor:
    """Rows of which nothing is trimmed."""
    if merge == "all":
        return weighted_sum(rows, weights)
    everything = torch.zeros(len(rows), device=rows.device), torch.full((len(rows),), torch.iinfo(torch.int64).max)
    return trim_elect(rows, weights, everything[0], everything[1].to(rows.device), 0, merge, elect, zero_vote_sign)


def sign_balance(
    deltas: Tensor, weights: Tensor, magnitudes: Tensor, cuts: Tensor, start: int, elect: Elect = "weighted"
) -> Tensor:
    signs = elected_signs(trim(deltas, magnitudes, cuts, start), weights, elect, 0)
    return signs.to(torch.int64).sum().reshape(1)


def trim(deltas: Tensor, magnitudes: Tensor, cuts: Tensor, start: int) -> Tensor:
    """Compared as integers: the order of the bits is the order of the magnitudes, and NaN is not lost."""
    bits = deltas.view(torch.int32) & 0x7FFFFFFF
    last = (magnitudes.view(torch.int32) & 0x7FFFFFFF)[:, None]
    index = torch.arange(start, start + deltas.shape[1], device=deltas.device)
    is_kept = (bits > last) | ((bits == last) & (index <= cuts[:, None]))
    return torch.where(is_kept, deltas, 0.0)


def elected_signs(kept: Tensor, weights: Tensor, elect: Elect, zero_vote_sign: int) -> Tensor:
    votes = torch.zeros_like(kept[0])
    for row, weight in zip(kept, weights, strict=True):
        votes = votes + {"weighted": weight * row, "unweighted": row, "frequency": row.sign()}[elect]
    return torch.where(votes > 0, 1.0, torch.where(votes < 0, -1.0, float(zero_vote_sign)))
