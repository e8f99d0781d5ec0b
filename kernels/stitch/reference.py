"""Stitching in plain torch: the definition."""

import torch
from torch import Tensor


def stitch(
    rows: Tensor, weights: Tensor, magnitudes: Tensor, cuts: Tensor, start: int, out: Tensor | None = None
) -> Tensor:
    bits, last = rows.view(torch.int32) & 0x7FFFFFFF, (magnitudes.view(torch.int32) & 0x7FFFFFFF)[:, None]
    index = torch.arange(start, start + rows.shape[1], device=rows.device)
    is_owned = (bits > last) | ((bits == last) & (index <= cuts[:, None]))
    total, owners = torch.zeros_like(rows[0]), is_owned.sum(dim=0).float()
    for row, weight, owned in zip(rows, weights, is_owned, strict=True):
        total = total + torch.where(owned, weight * row, 0.0)
    result = torch.where(owners > 0, total / owners, 0.0)
    return result if out is None else out.copy_(result)
