"""Isotropic merging in common and task-specific subspaces."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.methods.contract import Chunk
from merge_core.methods.spectral import NEGLIGIBLE, Doubles, SpectralMethod, Svd, Tasks, polar, svd_bytes, thin_svd
from merge_core.methods.thresholds import at_most


class IsoCts(SpectralMethod):
    """W₀ + λ mean(S) · U⊥ V⊥ᵀ of the common directions of Σ w_t τ_t and of what each task has outside of them.

    Of r = min(m, n) directions each task brings s = round((r − ⌊common · r⌋) / T), half to even as the authors' code
    rounds: the largest singular values of (I − U_c U_cᵀ) w_t τ_t, U_c being the first r − T·s (at least 0) left
    singular vectors of the sum, which are the rest. S is all of their singular values, U⊥ and V⊥ the polar factors of
    all vectors side by side. In float64; singular values up to 1e-6 of the largest count as 0 and have no directions,
    and no part in the mean. With `common` 1 it is iso_c, and of one input always; the order of inputs does not matter
    beyond rounding. Tensors that are not matrices get the mean of w_t τ_t. Marczak et al., "No Task Left Behind",
    2025, https://arxiv.org/abs/2502.04959, section 4.3.
    """

    name: Literal["iso_cts"] = "iso_cts"
    common: float = Field(default=0.8, ge=0.0, le=1.0)
    formula: ClassVar[str] = "W₀ + λ mean(S) · U⊥ V⊥ᵀ, the top `common` share of Σ w_t τ_t and each task's residual"
    source: ClassVar[str] = "Marczak et al. 2025, No Task Left Behind, https://arxiv.org/abs/2502.04959"

    def matrix_bytes(self, m: int, n: int, count: int) -> int:
        k = min(m, n)
        # A task may bring one direction more than its share: at most k + T/2 in all.
        kept = (k + count) * (m + n)
        return svd_bytes(m, n) + svd_bytes(max(m, n), k + count) + 8 * (3 * m * n + 4 * kept)

    def merge_matrices(self, tasks: Tasks, chunk: Chunk) -> Doubles:
        directions = tasks.directions
        own = round((directions - at_most(self.common, directions)) / len(tasks))
        common = thin_svd(tasks.total()).top(max(directions - own * len(tasks), 0))
        return _evened([*(_residual(task, common, own) for task in tasks), common])


def _residual(task: Doubles, common: Svd, own: int) -> Svd:
    """The `own` strongest directions of `task` outside the common ones; what is rounding noise beside it is none."""
    size = float(np.linalg.norm(task))
    task -= common.u @ (common.u.T @ task)
    return thin_svd(task).above(NEGLIGIBLE * size).top(own)


def _evened(parts: list[Svd]) -> Doubles:
    sigma = np.concatenate([part.sigma for part in parts])
    u, vt = np.concatenate([part.u for part in parts], axis=1), np.concatenate([part.vt for part in parts])
    merged: Doubles = polar(u) @ polar(vt.T).T
    merged *= sigma.mean() if len(sigma) else 0.0
    return merged
