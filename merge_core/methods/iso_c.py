"""Isotropic merging in the common subspace: the summed task vector with an even spectrum."""

from typing import ClassVar, Literal

from merge_core.methods.contract import Chunk
from merge_core.methods.spectral import Doubles, SpectralMethod, Tasks, svd_bytes, thin_svd


class IsoC(SpectralMethod):
    """W₀ + λ mean(S) · U Vᵀ with Σ w_t τ_t = U S Vᵀ.

    In float64, over the singular values above 1e-6 of the largest: the directions in which nothing changes have no
    part. In full space they would be rounding noise given the mean's size; low-rank inputs are merged in core space.
    A zero sum leaves the base, and a matrix of one row or column is Σ w_t τ_t. One input is not returned as it is: its
    singular values become their mean. The order of inputs does not matter beyond rounding. Tensors that are not
    matrices get the mean of w_t τ_t. Marczak et al., "No Task Left Behind", 2025, https://arxiv.org/abs/2502.04959,
    section 4.2.
    """

    name: Literal["iso_c"] = "iso_c"
    formula: ClassVar[str] = "W₀ + λ mean(S) · U Vᵀ, Σ w_t τ_t = U S Vᵀ"
    source: ClassVar[str] = "Marczak et al. 2025, No Task Left Behind, https://arxiv.org/abs/2502.04959"

    def matrix_bytes(self, m: int, n: int, count: int) -> int:
        return svd_bytes(m, n) + 8 * 3 * m * n

    def merge_matrices(self, tasks: Tasks, chunk: Chunk) -> Doubles:
        found = thin_svd(tasks.total())
        merged: Doubles = found.u @ found.vt
        merged *= found.sigma.mean() if len(found.sigma) else 0.0
        return merged
