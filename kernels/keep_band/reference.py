"""The band of magnitudes in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.trim_elect.reference import trim


def keep_band(
    rows: Tensor, lower: tuple[Tensor, Tensor], upper: tuple[Tensor, Tensor], start: int, out: Tensor | None = None
) -> Tensor:
    is_zero = trim(rows, *upper, start).view(torch.int32) == 0
    result = torch.where(is_zero, trim(rows, *lower, start), 0.0)
    return result if out is None else out.copy_(result)
