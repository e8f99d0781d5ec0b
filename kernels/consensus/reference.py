"""The consensus of tasks in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.weighted_sum.reference import weighted_sum


def consensus(
    rows: Tensor, weights: Tensor, mask_scales: Tensor, fewest_owners: int, out: Tensor | None = None
) -> Tensor:
    total, values = weighted_sum(rows, weights), weights[:, None] * rows
    owned = values.abs() > mask_scales[:, None] * (total - values).abs()
    result = torch.where(owned.sum(dim=0) >= fewest_owners, total, 0.0)
    return result if out is None else out.copy_(result)
