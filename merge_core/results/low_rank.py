"""Sums of low-rank deltas on a stored base, as one product: the factors side by side.

Not to the bit what adding the deltas up one by one would give, so the plan's inputs alone decide: it is the
definition wherever it applies.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.low_rank_add import low_rank_add
from kernels.storage import narrow, widen
from merge_core.deltas import Absent, LowRankLoader, Rows
from merge_core.deltas.contract import unbounded
from merge_core.planning.tensors import Merge
from merge_core.results.contract import Ready
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True)
class LowRankSum:
    """base + λ · up · down on one thread: `up` is float32 [rows, Σ ranks], `down` [Σ ranks, columns]."""

    merge: Merge
    base: StoredTensor
    up: Rows
    down: Rows
    sums: Rows
    room: NDArray[Any]

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """The merged elements in the output's dtype: Σ_k (λ·up[i, k])·down[k, j] in order of k, on the base."""
        raw = self.base.storage()[start : start + size]
        out = widen(raw, self.base.spec.dtype.label, self.sums[:size])
        low_rank_add(out, self.down.shape[1], start, self.up, self.down, self.merge.scale)
        return narrow(out, self.merge.spec.dtype.label, self.room[:size])


def result(ready: Ready) -> LowRankSum | None:
    """None where an input is not low-rank, or the method does more than add up. Absent inputs add nothing."""
    coefficients, base = ready.coefficients(), ready.merge.base
    factors = [loader for loader in ready.loaders if isinstance(loader, LowRankLoader)]
    absent = sum(isinstance(loader, Absent) for loader in ready.loaders)
    is_low_rank = factors and len(factors) + absent == len(ready.loaders) and ready.merge.space == "delta"
    if coefficients is None or not is_low_rank or not isinstance(base, StoredTensor):
        return None
    with unbounded():
        ups = [
            np.float32(coefficient * np.float32(loader.scale)) * loader.up
            for coefficient, loader in zip(coefficients, ready.loaders, strict=True)
            if isinstance(loader, LowRankLoader)
        ]
    up, down = np.hstack(ups), np.vstack([loader.down for loader in factors])
    return LowRankSum(ready.merge, base, up, down, np.empty(ready.elements, np.float32), ready.room())
