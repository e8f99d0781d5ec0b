"""The spread in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.kth_magnitude import Near
from kernels.kth_magnitude import reference as kth_magnitude


def spread(rows: Tensor, out: Tensor | None = None) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64, device=rows.device)
    squares = torch.zeros_like(total)
    for row in rows.double():
        total = total + row
        squares = squares + row * row
    values = (len(rows) * squares - total * total).clamp(min=0.0).sqrt().float()
    return values if out is None else out.copy_(values)


def sample_histogram(rows: Tensor, start: int, out: Tensor | None = None) -> Tensor:
    return kth_magnitude.sample_histogram(spread(rows)[None], start, out)


def near_histogram(rows: Tensor, guess: Near, out: Tensor | None = None) -> Tensor:
    return kth_magnitude.near_histogram(spread(rows)[None], guess, out)
