"""Means over what was changed in plain torch: the definition."""

import torch
from torch import Tensor


def is_changed(rows: Tensor, epsilon: float) -> Tensor:
    return ~(rows.abs() <= torch.tensor(epsilon, dtype=torch.float32))


def changed_mean(rows: Tensor, epsilon: float, gains: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    changed = is_changed(rows, epsilon)
    owners = changed.sum(dim=0)
    total = torch.zeros_like(rows[0])
    for model, row in enumerate(rows):
        value = row if gains is None else torch.where(owners == 1, gains[model] * row, row)
        total = total + torch.where(changed[model], value, 0.0)
    result = total / owners.clamp(min=1)
    return result if out is None else out.copy_(result)


def changed_counts(rows: Tensor, epsilon: float, out: Tensor | None = None) -> Tensor:
    changed = is_changed(rows, epsilon)
    owners = changed.sum(dim=0)
    counts = torch.stack([(changed & (owners > 1)).sum(dim=1), (changed & (owners == 1)).sum(dim=1)], dim=1)
    return counts if out is None else out.add_(counts)
