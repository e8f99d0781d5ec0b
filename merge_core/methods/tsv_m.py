"""TSV-Merge: the strongest singular vectors of every task, made orthogonal to those of the others."""

from typing import ClassVar, Literal

import numpy as np

from merge_core.methods.contract import Chunk, Weights
from merge_core.methods.spectral import Doubles, SpectralMethod, Svd, Tasks, polar, svd_bytes, thin_svd


class TsvM(SpectralMethod):
    """W₀ + λ U⊥ diag(S) V⊥ᵀ of the k = ⌊min(m, n) / T⌋ largest singular values of each w_t τ_t.

    S is all that are kept, U and V their vectors side by side, U⊥ and V⊥ the polar factors P Qᵀ of U = P Σ Qᵀ. In
    float64; singular values up to 1e-6 of the largest of their matrix count as 0 and have no vectors, so that
    low-rank, equal and zero deltas have one result. One input is taken as it is; the order of inputs does not
    matter beyond rounding. Tensors that are not matrices, and matrices with fewer rows or columns than there are
    inputs, get the mean of w_t τ_t. Gargiulo et al., "Task Singular Vectors", 2025,
    https://arxiv.org/abs/2412.00081, section 4.3.
    """

    name: Literal["tsv_m"] = "tsv_m"
    formula: ClassVar[str] = "W₀ + λ U⊥ diag(S) V⊥ᵀ, the top min(m, n)/T of each SVD of w_t τ_t, orthogonalised"
    source: ClassVar[str] = "Gargiulo et al. 2025, Task Singular Vectors, https://arxiv.org/abs/2412.00081"

    def takes_as_it_is(self, weights: Weights) -> bool:
        return len(weights) == 1

    def narrowest(self, count: int) -> int:
        return count

    def matrix_bytes(self, m: int, n: int, count: int) -> int:
        k = min(m, n)
        return svd_bytes(m, n) + svd_bytes(max(m, n), k) + 8 * (2 * m * n + 4 * k * (m + n))

    def merge_matrices(self, tasks: Tasks, chunk: Chunk) -> Doubles:
        kept = tasks.directions // len(tasks)
        return orthogonalised([_copied(thin_svd(task).top(kept)) for task in tasks])


def orthogonalised(parts: list[Svd]) -> Doubles:
    """U⊥ diag(S) V⊥ᵀ of all `parts` side by side."""
    u, vt = np.concatenate([part.u for part in parts], axis=1), np.concatenate([part.vt for part in parts])
    merged: Doubles = (polar(u) * np.concatenate([part.sigma for part in parts])) @ polar(vt.T).T
    return merged


def _copied(part: Svd) -> Svd:
    """Without the memory of the whole SVD that it is a view of."""
    return Svd(part.u.copy(), part.sigma, part.vt.copy())
