"""A change of the diagonal between the triangular factors of the base: LoLDU."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.deltas.low_rank import LowRankLoader
from merge_core.stored import StoredTensor

Doubles = NDArray[np.float64]
Reference = Literal["diagonal", "mean"]


@dataclass(frozen=True, eq=False)
class Triangular:
    """W = base + s · P L_r diag(z) U_r − s₀ · P L_r diag(z₀) U_r, with base = P L diag(d) U by partial pivoting.

    z₀ is the first r entries of d, or all of them their mean, as `reference` says.
    """

    base: StoredTensor
    diagonal: StoredTensor
    scale: float
    initial_scale: float
    reference: Reference
    kind: str = field(default="triangular", init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.spec.shape

    @property
    def rank(self) -> int:
        return self.diagonal.spec.shape[0]

    @property
    def nbytes(self) -> int:
        return self.diagonal.spec.nbytes

    @property
    def open_bytes(self) -> int:
        """The base in float64, and both factors."""
        return 8 * self.base.spec.size + 12 * self.rank * sum(self.shape)

    def open(self) -> LowRankLoader:
        return LowRankLoader(*self._factors, 1.0)

    @cached_property
    def _factors(self) -> tuple[Rows, Rows]:
        """float32 [rows, rank] and [rank, columns]: found once, since they cost a factorisation."""
        dense = widen(self.base.storage(), self.base.spec.dtype.label).astype(np.float64).reshape(self.shape)
        lower, diagonal, upper = lower_diagonal_upper(dense, self.rank)
        trained = widen(self.diagonal.storage(), self.diagonal.spec.dtype.label).astype(np.float64)
        initial = diagonal if self.reference == "diagonal" else np.full_like(diagonal, diagonal.mean())
        change = self.scale * trained - self.initial_scale * initial
        return lower.astype(np.float32), np.ascontiguousarray((change[:, None] * upper).astype(np.float32))


def lower_diagonal_upper(matrix: Doubles, rank: int) -> tuple[Doubles, Doubles, Doubles]:
    """P L_r [rows, rank], d_r [rank] and U_r [rank, columns] of P L diag(d) U = matrix, which is overwritten.

    Partial pivoting, the first of equal pivots, as LAPACK has it; the first `rank` steps give all that is asked
    for, since later ones only change the order of rows that are not theirs. A pivot of zero gives infinities, as
    in the original.
    """
    rows, columns = matrix.shape
    lower, upper = np.zeros((rows, rank)), np.zeros((rank, columns))
    is_left = np.ones(rows, dtype=np.bool_)
    order = np.arange(rows)
    for step in range(rank):
        pivot = step + int(np.argmax(np.abs(matrix[order[step:], step])))
        order[[step, pivot]] = order[[pivot, step]]
        chosen = order[step]
        is_left[chosen] = False
        row = matrix[chosen].copy()
        row[:step] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            factors = np.where(is_left, matrix[:, step] / row[step], 0.0)
            upper[step] = row / row[step]
        matrix[:, step:] -= np.outer(factors, row[step:])
        lower[:, step], lower[chosen, step] = factors, 1.0
        upper[step, step] = row[step]
    diagonal = np.diagonal(upper).copy()
    upper[np.arange(rank), np.arange(rank)] = 1.0
    return lower, diagonal, upper
