"""Two stored factors, with or without a core between them, as the matrices whose product they mean."""

from dataclasses import dataclass
from math import prod

import numpy as np

from kernels.low_rank_add import low_rank_add
from merge_core.deltas.contract import Rows
from merge_core.deltas.low_rank import widened
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """up · down, or Σ_ij up[p, i] core[i, j, …] down[j, q]: a matrix [rows, columns], kernel dimensions flattened.

    `down` is [rank, columns…]. `up` is [rows, rank…], or [rank, rows] when it is stored transposed.
    """

    up: StoredTensor
    down: StoredTensor
    core: StoredTensor | None = None
    up_transposed: bool = False

    @property
    def rank(self) -> int:
        return self.up.spec.shape[0 if self.up_transposed else 1]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows, columns, and kernel dimensions where they are known."""
        rows = self.up.spec.shape[1 if self.up_transposed else 0]
        if self.core is None:
            return (rows, *self.down.spec.shape[1:])
        return (rows, self.down.spec.shape[1], *self.core.spec.shape[2:])

    @property
    def nbytes(self) -> int:
        return self.up.spec.nbytes + self.down.spec.nbytes + (self.core.spec.nbytes if self.core else 0)

    @property
    def open_bytes(self) -> int:
        """Both matrices in float32, twice while a core is multiplied in."""
        rows, columns = self.shape[0], prod(self.shape[1:])
        return 4 * self.rank * (rows + (1 if self.core is None else 3) * columns)

    def matrices(self) -> tuple[Rows, Rows]:
        """float32 [rows, rank] and [rank, columns]."""
        up, down = widened(self.up), widened(self.down)
        up = np.ascontiguousarray(up.T) if self.up_transposed else up
        return up, down if self.core is None else _through(widened(self.core), down)

    def matrix(self) -> Rows:
        """The product itself, float32 [rows, columns]."""
        return multiplied(*self.matrices())


def multiplied(up: Rows, down: Rows, scale: float = 1.0) -> Rows:
    """scale · up · down, each sum in the order of the rank: the same bits on every machine."""
    out = np.zeros(len(up) * down.shape[1], dtype=np.float32)
    low_rank_add(out, down.shape[1], 0, up, down, scale)
    return out.reshape(len(up), down.shape[1])


def _through(core: Rows, down: Rows) -> Rows:
    """Σ_j core[i, j, k] down[j, q] as [i, (q, k)]."""
    rank, columns = down.shape
    kernel = core.reshape(len(core), rank, -1).transpose(0, 2, 1)  # [i, k, j]
    product = multiplied(np.ascontiguousarray(kernel).reshape(-1, rank), down)
    across = product.reshape(len(core), -1, columns).transpose(0, 2, 1)
    return np.ascontiguousarray(across).reshape(len(core), -1)
