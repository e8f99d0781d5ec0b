"""Random dropping in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.philox.reference import uniform
from kernels.trim_elect.choices import Elect, Merge
from kernels.trim_elect.reference import combine


def random_drop(
    rows: Tensor, seed: int, stream: str, start: int, density: float, rescale: bool = True, out: Tensor | None = None
) -> Tensor:
    draws = [uniform(seed, stream, i, start, torch.empty_like(row)) for i, row in enumerate(rows)]
    is_kept = torch.stack(draws).double() < density if draws else torch.empty_like(rows).bool()
    result = keep(rows, is_kept, density, rescale)
    return result if out is None else out.copy_(result)


def drop_merge(
    rows: Tensor,
    weights: Tensor,
    seed: int,
    stream: str,
    start: int,
    density: float,
    rescale: bool = True,
    merge: Merge = "mean",
    elect: Elect = "weighted",
    zero_vote_sign: int = 0,
) -> Tensor | None:
    """`random_drop`, then what is left merged; None where a row is not finite."""
    if not rows.isfinite().all():
        return None
    thinned = random_drop(rows, seed, stream, start, density, rescale)
    return combine(thinned, weights, merge, elect, zero_vote_sign)


def keep(rows: Tensor, is_kept: Tensor, density: float, rescale: bool = True) -> Tensor:
    """What the draws have spared, rescaled; 0 for the rest, NaN where that is not finite."""
    divisor = torch.tensor(max(density, 2.0**-24) if rescale else 1.0, dtype=torch.float32, device=rows.device)
    return torch.where(is_kept, rows / divisor, rows - rows)
