"""KnOTS: task vectors brought into one basis by a joint SVD, merged there entry by entry."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.gram import BLOCK
from merge_core.methods.contract import Chunk, Method, Rows, Surveyed, Weights
from merge_core.methods.core import Sides
from merge_core.methods.dare_linear import DareLinear
from merge_core.methods.dare_ties import DareTies
from merge_core.methods.sparse_rows import Aggregate
from merge_core.methods.spectral import Doubles, SpectralMethod, Tasks, svd_bytes
from merge_core.methods.task_arithmetic import TaskArithmetic
from merge_core.methods.ties import Ties

LEAST = 1e-5
"""Singular values up to this count as 0, whatever the size of the deltas: the authors' threshold."""


class Knots(SpectralMethod):
    """W₀ + λ U · merge of C_t = diag(S) V_tᵀ, where [τ_1 … τ_T] = U S [V_1 … V_T]ᵀ without S ≤ 1e-5.

    `merge` says how the C_t become one, entry by entry: ties (`density`, `aggregate`), dare_ties, dare_linear or
    task_arithmetic, as these methods define it, each with the weights w_t and its other parameters at their
    defaults. The SVD is in float64, the C_t are rounded to float32. task_arithmetic is Σ w_t τ_t, of the directions
    kept. One input at density 1 is taken as it is; deltas of which no singular value is above 1e-5 leave the base.
    Tensors that are not matrices get the mean of w_t τ_t. Stoica et al., "Model merging with SVD to tie the
    KnOTS", 2025, https://arxiv.org/abs/2410.19735, section 4.
    """

    name: Literal["knots"] = "knots"
    merge_by: Literal["ties", "dare_ties", "dare_linear", "task_arithmetic"] = "ties"
    # The C_t are merged entry by entry along the inputs, which must stay as they are.
    sides: ClassVar[Sides] = "left"
    density: float = Field(default=1.0, ge=0.0, le=1.0)
    aggregate: Aggregate = "mean"
    formula: ClassVar[str] = "W₀ + λ U · TIES of the diag(S) V_tᵀ, [τ_1 … τ_T] = U S [V_1 … V_T]ᵀ"
    source: ClassVar[str] = (
        "Stoica et al. 2025, Model merging with SVD to tie the KnOTS, https://arxiv.org/abs/2410.19735"
    )

    @property
    def inner(self) -> Method:
        """The method that merges the C_t."""
        if self.merge_by == "task_arithmetic":
            return TaskArithmetic()
        if self.merge_by == "dare_linear":
            return DareLinear(density=self.density)
        if self.merge_by == "dare_ties":
            return DareTies(density=self.density, aggregate=self.aggregate)
        return Ties(density=self.density, aggregate=self.aggregate)

    def matrix_bytes(self, m: int, n: int, count: int) -> int:
        wide = count * n
        return svd_bytes(m, wide) + 8 * (m * wide + 3 * min(m, wide) * wide + m * n) + self.inner.survey_bytes(count)

    def takes_as_it_is(self, weights: Weights) -> bool:
        return len(weights) == 1 and self.density == 1 and float(weights[0]) == 1

    def merge_matrices(self, tasks: Tasks, chunk: Chunk) -> Doubles:
        m, n = tasks.shape
        # The weights come in where the C_t are merged.
        side_by_side = tasks.rows.transpose(1, 0, 2).reshape(m, -1).astype(np.float64)
        u, sigma, vt = np.linalg.svd(side_by_side, full_matrices=False)
        rank = int(np.count_nonzero(sigma > LEAST))
        if rank == 0:
            return np.zeros((m, n))
        parts = (sigma[:rank, None] * vt[:rank]).reshape(rank, len(tasks), n).transpose(1, 2, 0)
        parts[~tasks.rows.any(axis=1)] = 0  # of a column of zeros the SVD leaves noise, which would have votes
        inner = _shaped(parts.transpose(0, 2, 1), chunk)
        merged: Doubles = u[:, :rank] @ merge_whole(self.inner, inner, tasks.weights).reshape(rank, n)
        return merged


def merge_whole(method: Method, chunk: Chunk, weights: Weights) -> Rows:
    """What `method` makes of a chunk that is a whole tensor: its surveys, then its merge."""
    state, over = None, Surveyed(chunk.tensor, chunk.rows.shape[1], range(-(-chunk.rows.shape[1] // BLOCK)))
    for round_ in range(method.rounds):
        if method.wants_round(round_, state):
            state = method.conclude(round_, method.survey(round_, chunk, weights, state, None), over, weights, state)
    return method.merge(chunk, weights, state)


def _shaped(parts: Doubles, like: Chunk) -> Chunk:
    """The matrices [tasks, rank, n] as a whole tensor of their own, under the name that random draws follow."""
    count, rank, n = parts.shape
    rows = np.ascontiguousarray(parts, dtype=np.float32).reshape(count, rank * n)
    return Chunk(rows, None, 0, like.tensor, (rank, n), like.seed)
