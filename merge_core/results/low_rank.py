"""Sums of low-rank deltas on a stored base, as one product: the factors side by side.

Not to the bit what adding the deltas up one by one would give, so the plan's inputs alone decide: it is the
definition wherever it applies.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.low_rank_add import stored_low_rank_add
from kernels.stored_elements import Stored, part
from merge_core.deltas import Absent, LowRankLoader, Rows
from merge_core.deltas.contract import unbounded
from merge_core.planning.tensors import Merge
from merge_core.results.contract import Ready
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True)
class LowRankSum:
    """base + λ · up · down on one thread: `up` is float32 [rows, Σ ranks], `down` [Σ ranks, columns]."""

    merge: Merge
    base: Stored
    up: Rows
    down: Rows
    room: NDArray[Any]

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """The merged elements in the output's dtype: Σ_k (λ·up[i, k])·down[k, j] in order of k, on the base."""
        base, columns = part(self.base, start, size), self.down.shape[1]
        factors = self.up, self.down, self.merge.scale
        return stored_low_rank_add(base, columns, start, *factors, self.merge.spec.dtype.label, self.room[:size])


def result(ready: Ready) -> LowRankSum | None:
    """None where an input is not low-rank, or the method does more than add up. Absent inputs add nothing."""
    coefficients, base = ready.coefficients(), ready.merge.base
    factors = [loader for loader in ready.loaders if isinstance(loader, LowRankLoader)]
    absent = sum(isinstance(loader, Absent) for loader in ready.loaders)
    is_low_rank = factors and len(factors) + absent == len(ready.loaders) and ready.merge.space == "delta"
    if coefficients is None or not is_low_rank or not isinstance(base, StoredTensor):
        return None
    shares = [share for share, loader in zip(coefficients, ready.loaders, strict=True) if loader in factors]
    with unbounded():
        up, down = _side_by_side(factors, shares)
    return LowRankSum(ready.merge, base.labelled(), up, down, ready.room())


def _side_by_side(factors: list[LowRankLoader], shares: list[np.float32]) -> tuple[Rows, Rows]:
    """up [rows, Σ ranks], each part multiplied by its share, and down [Σ ranks, columns]."""
    ranks = [len(loader.down) for loader in factors]
    up = np.empty((len(factors[0].up), sum(ranks)), np.float32)
    for loader, share, last in zip(factors, shares, accumulate(ranks), strict=True):
        part = up[:, last - len(loader.down) : last]
        np.multiply(loader.up, np.float32(share * np.float32(loader.scale)), out=part)
    return up, np.concatenate([loader.down for loader in factors])
