"""Selection in plain torch: the definition."""

import numpy as np
import torch
from torch import Tensor

from kernels.gram import BLOCK
from kernels.gram import reference as gram
from kernels.selection import Beyond
from kernels.spread.reference import spread
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.reference import combine


def squares_beyond(rows: Tensor, magnitude: np.float32) -> Tensor:
    """Ties are added up one by one, from the first on."""
    apart = spread(rows)
    is_tie, blocks = apart == float(magnitude), -(-rows.shape[1] // BLOCK)
    ties = torch.zeros(blocks, len(rows) + 1, dtype=torch.float64, device=rows.device)
    for i in is_tie.nonzero().reshape(-1).tolist():
        ties[i // BLOCK, :-1] += rows[:, i].double().square()
        ties[i // BLOCK, -1] += 1.0
    return torch.cat([gram.squares(rows, apart > float(magnitude)), ties], dim=1)


def selected_merge(
    rows: Tensor,
    beyond: Beyond,
    start: int,
    weights: Tensor,
    merge: Merge = "mean",
    elect: Elect = "unweighted",
    zero_vote_sign: int = 0,
) -> Tensor:
    """What all elements are merged to, where they are selected."""
    merged = combine(rows, weights, merge, elect, zero_vote_sign)
    return torch.where(selected(rows, beyond, start), merged, 0.0)


def selected(rows: Tensor, beyond: Beyond, start: int) -> Tensor:
    """Which elements are selected: bool [elements]."""
    apart, magnitude = spread(rows), float(beyond.magnitude)
    index = torch.arange(start, start + len(apart), device=rows.device)
    return (apart > magnitude) | ((apart == magnitude) & (index <= beyond.cut))
