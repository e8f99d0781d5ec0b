"""MagPrune in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.philox.reference import uniform
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.reference import combine


def rank_drop(
    rows: Tensor,
    width: int,
    seed: int,
    stream: str,
    start: int,
    shares: tuple[float, float],
    rescale: bool = True,
    out: Tensor | None = None,
) -> Tensor:
    result = torch.empty_like(rows)
    for i, row in enumerate(rows):
        chances = chances_of(row.reshape(-1, width), shares).reshape(-1)
        draws = uniform(seed, stream, i, start, torch.empty_like(row))
        kept = row / chances if rescale else row
        result[i] = torch.where(draws < chances, kept, row - row)
    return result if out is None else out.copy_(result)


def rank_merge(
    rows: Tensor,
    weights: Tensor,
    width: int,
    seed: int,
    stream: str,
    start: int,
    shares: tuple[float, float],
    rescale: bool = True,
    merge: Merge = "mean",
    elect: Elect = "weighted",
    zero_vote_sign: int = 0,
) -> Tensor | None:
    """`rank_drop`, then what is left merged; None where a row is not finite."""
    if not rows.isfinite().all():
        return None
    thinned = rank_drop(rows, width, seed, stream, start, shares, rescale)
    return combine(thinned, weights, merge, elect, zero_vote_sign)


def chances_of(matrix: Tensor, shares: tuple[float, float]) -> Tensor:
    """Compared as integers, a magnitude's rank in its row; ranks rise in element order where magnitudes are equal."""
    lowest, highest = shares
    ranks = (matrix.view(torch.int32) & 0x7FFFFFFF).argsort(dim=1, stable=True).argsort(dim=1).double()
    last = matrix.shape[1] - 1
    places = ranks / last if last else torch.full_like(ranks, 0.5)
    return (lowest + (highest - lowest) * places).float()
