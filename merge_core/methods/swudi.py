"""WUDI merging in closed form: the task vectors' interference minimised where they are strongest."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.methods.contract import Chunk, Weights
from merge_core.methods.spectral import Doubles, SpectralMethod, Tasks, svd_bytes
from merge_core.methods.thresholds import at_least

LEAST = 1e-8
"""Eigenvalues of C under this have no direction; those of C sum up to the number of tasks."""


class Swudi(SpectralMethod):
    """W₀ + λ θ, θ = θ₀ (I − Q f Qᵀ) + D Q (f / Λ) Qᵀ, θ₀ = Σ w_t τ_t: WUDI's loss followed downhill from θ₀.

    Of x_t = w_t τ_t: C = Σ x_tᵀ x_t / ‖x_t‖² = Q Λ Qᵀ and D = Σ x_t x_tᵀ x_t / ‖x_t‖². f = 1 − e^(−Λ · time) on the
    ⌈share · number⌉ largest of the eigenvalues from 1e-8 on, 0 elsewhere; without `time` f is 1, the minimum of the
    loss Σ ‖(θ − x_t) x_tᵀ‖² / ‖x_t‖² in these directions. In float64. A task of norm 0 has no part; `share` 0 or
    `time` 0 is Σ w_t τ_t, and so are tasks that share no input direction; one input is taken as it is. The order of
    inputs does not matter beyond rounding. Tensors that are not matrices get the mean of w_t τ_t. Cheng et al.,
    "Whoever Started the Interference Should End It", 2025, https://arxiv.org/abs/2503.08099, section 4; the closed
    form solves its gradient flow.
    """

    name: Literal["swudi"] = "swudi"
    share: float = Field(default=0.65, ge=0.0, le=1.0)
    time: float | None = Field(default=None, ge=0.0)
    formula: ClassVar[str] = "W₀ + λ (θ₀ (I − Q f Qᵀ) + D Q (f / Λ) Qᵀ), Σ τᵀτ / ‖τ‖² = Q Λ Qᵀ, D = Σ τ τᵀτ / ‖τ‖²"
    source: ClassVar[str] = "Cheng et al. 2025, Whoever Started the Interference, https://arxiv.org/abs/2503.08099"

    def matrix_bytes(self, m: int, n: int, count: int) -> int:
        tall = count * m
        directions = min(tall, n)
        eigen = 8 * 6 * n * n if n <= tall else svd_bytes(tall, n) + 8 * tall * n
        return eigen + 8 * (3 * m * n + 4 * m * directions + 2 * n * directions)

    def takes_as_it_is(self, weights: Weights) -> bool:
        return len(weights) == 1

    def merge_matrices(self, tasks: Tasks, chunk: Chunk) -> Doubles:
        scales = [_inverse(float(np.vdot(task, task))) for task in tasks]
        eigenvalues, q = _strongest(tasks, scales, self.share)
        f = np.ones_like(eigenvalues) if self.time is None else -np.expm1(-eigenvalues * self.time)
        start = tasks.total()
        pull = sum((task @ (task.T @ (task @ q)) * scale for task, scale in zip(tasks, scales, strict=True)), 0.0)
        merged: Doubles = start + (pull * (f / eigenvalues) - (start @ q) * f) @ q.T
        return merged


def _inverse(square: float) -> float:
    return 1.0 / square if square > 0 else 0.0


def _strongest(tasks: Tasks, scales: list[float], share: float) -> tuple[Doubles, Doubles]:
    """The `share` of largest eigenvalues of C, and their vectors as columns."""
    eigenvalues, vectors = _eigen(tasks, scales)
    known = int(np.count_nonzero(eigenvalues >= LEAST))
    kept = at_least(share, known)
    return eigenvalues[:kept], vectors[:, :kept]


def _eigen(tasks: Tasks, scales: list[float]) -> tuple[Doubles, Doubles]:
    """Eigenvalues of C, falling; from its factor where that is the smaller matrix."""
    m, n = tasks.shape
    if n <= len(tasks) * m:
        gram = np.zeros((n, n))
        for task, scale in zip(tasks, scales, strict=True):
            gram += task.T @ task * scale
        eigenvalues, vectors = np.linalg.eigh(gram)
        return eigenvalues[::-1], vectors[:, ::-1]
    factor = np.concatenate([task * np.sqrt(scale) for task, scale in zip(tasks, scales, strict=True)])
    _, sigma, vt = np.linalg.svd(factor, full_matrices=False)
    return sigma * sigma, vt.T
