"""Singular value calibration: a merged delta, each direction as strong as the tasks want it."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.methods.contract import Chunk, Weights
from merge_core.methods.spectral import Doubles, SpectralMethod, Tasks, svd_bytes, thin_svd
from merge_core.methods.swudi import Swudi
from merge_core.methods.tsv_m import TsvM

MERGES: dict[str, SpectralMethod] = {"tsv_m": TsvM(), "swudi": Swudi()}


class Svc(SpectralMethod):
    """W₀ + λ U diag(σ_r · T / Σ_t max(α, s_r^t)) Vᵀ, where `of` merges to U diag(σ) Vᵀ.

    `of` is task_arithmetic (Σ w_t τ_t), or tsv_m or swudi with their defaults; of iso_c and iso_cts all σ are equal, so
    that there is no one direction r to calibrate. a_r^t = u_rᵀ w_t τ_t is what task t has in output direction r, and
    s_r^t = ⟨σ_r v_r, a_r^t⟩ / ‖a_r^t‖² how far the merge overshoots it; a task with nothing there counts as α. In
    float64, without the σ up to 1e-6 of the largest. One input is taken as it is, equal ones count once, and deltas
    that merge to zero leave the base. Tensors that are not matrices get the mean of w_t τ_t, and so do matrices
    that are too narrow for tsv_m. As implemented in FusionBench, 2025, https://github.com/tanganke/fusion_bench.
    """

    name: Literal["svc"] = "svc"
    of: Literal["task_arithmetic", "tsv_m", "swudi"] = "task_arithmetic"
    alpha: float = Field(default=0.1, gt=0.0, le=1.0)
    formula: ClassVar[str] = "W₀ + λ U diag(σ_r · T / Σ_t max(α, s_r^t)) Vᵀ, s_r^t = ⟨σ_r v_r, u_rᵀτ_t⟩ / ‖u_rᵀτ_t‖²"
    source: ClassVar[str] = "FusionBench 2025, https://github.com/tanganke/fusion_bench"

    def narrowest(self, count: int) -> int:
        return MERGES[self.of].narrowest(count) if self.of in MERGES else 1

    def matrix_bytes(self, m: int, n: int, count: int) -> int:
        inner = MERGES[self.of].matrix_bytes(m, n, count) if self.of in MERGES else 0
        return max(inner, svd_bytes(m, n) + 8 * 3 * min(m, n) * n) + 8 * 3 * m * n

    def takes_as_it_is(self, weights: Weights) -> bool:
        return len(weights) == 1

    def merge_matrices(self, tasks: Tasks, chunk: Chunk) -> Doubles:
        found = thin_svd(MERGES[self.of].merge_matrices(tasks, chunk) if self.of in MERGES else tasks.total())
        strong = found.sigma[:, None] * found.vt
        wanted = sum((np.maximum(self.alpha, _overshoot(found.u.T @ task, strong)) for task in tasks), np.float64(0.0))
        merged: Doubles = (found.u * (len(tasks) / wanted)) @ strong
        return merged


def _overshoot(own: Doubles, strong: Doubles) -> Doubles:
    """s of each direction: `own` and `strong` are [rank, n], the rows a_r and σ_r v_r."""
    squares = np.einsum("rn,rn->r", own, own)
    products = np.einsum("rn,rn->r", strong, own)
    shares: Doubles = np.divide(products, squares, out=np.zeros_like(products), where=squares > 0)
    return shares
