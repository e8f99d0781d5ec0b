"""Selection in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.gram import reference as gram
from kernels.selection import Beyond
from kernels.spread.reference import spread
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.reference import combine


def selected_squares(rows: Tensor, beyond: Beyond, start: int) -> Tensor:
    return gram.squares(rows, selected(rows, beyond, start))


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
