"""The sums in plain torch: the definition, up to the order of a block's float64 sum."""

import torch
from torch import Tensor

from kernels.gram import BLOCK


def moments(x: Tensor, magnitude: float) -> Tensor:
    limit = torch.tensor(magnitude, dtype=torch.float32).double()
    rows = []
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK].double()
        beyond, ties = part[part.abs() > limit], part[part.abs() == limit]
        of_ties, of_beyond = (len(ties), ties.sign().sum()), (len(beyond), beyond.abs().sum(), beyond.sum())
        sums = (part.sum(), (part * part).sum(), *of_ties, *of_beyond)
        rows.append(torch.tensor([float(one) for one in sums], dtype=torch.float64))
    return torch.stack(rows) if rows else torch.empty(0, 7, dtype=torch.float64)
