"""RegMean: for each linear layer the weights that come closest to every model's outputs on its own inputs."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.weighted_sum import weighted_sum
from merge_core.errors import FileError
from merge_core.methods.contract import Chunk, Method, Reads, Rows, Space, State, Weights, normalized
from merge_core.methods.finite import refuse_infinite_rows
from merge_core.methods.lapack import serial
from merge_core.methods.shares import refuse_negative_weights
from merge_core.methods.spectral import Doubles
from merge_core.statistics import Statistic


class RegMean(Method):
    """Wᵀ = (Σ w_t G̃_t)⁻¹ Σ w_t G̃_t W_tᵀ, G̃ = a G + (1−a) diag G with a = `off_diagonal`, for linear layers.

    G_t = Σ x xᵀ over the layer's inputs is read from `regmean_gram.safetensors` beside each ingredient's weights
    (docs/statistics.md). A tensor that no ingredient has a G of gets the weighted mean Σ w_t W_t / Σ w_t, and so
    does the column of an input that is 0 in every G. In float64; one input is taken as it is. Weights may not be
    negative. Jin et al., "Dataless knowledge fusion", 2023, https://arxiv.org/abs/2212.09849, equation 2 and
    section 4.
    """

    name: Literal["regmean"] = "regmean"
    off_diagonal: float = Field(default=0.9, ge=0.0, le=1.0)
    space: ClassVar[Space] = "weight"
    reads: ClassVar[Reads] = "matrix"
    statistic: ClassVar[Statistic | None] = Statistic.GRAM
    formula: ClassVar[str] = "Wᵀ = (Σ w_t G̃_t)⁻¹ Σ w_t G̃_t W_tᵀ, G̃ = a G + (1−a) diag G"
    source: ClassVar[str] = "Jin et al. 2023, Dataless knowledge fusion, https://arxiv.org/abs/2212.09849"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_negative_weights(weights, tensor)

    def work_bytes(self, shape: tuple[int, ...], count: int) -> int:
        if len(shape) != 2:
            return 0
        rows, columns = shape
        return 8 * columns * (5 * columns + 5 * rows)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        mean = weighted_sum(chunk.rows, normalized(weights))
        if not chunk.statistics or len(chunk.rows) == 1 or mean.size == 0:
            return mean
        refuse_infinite_rows(chunk.rows, chunk.tensor)
        with serial():
            merged = self._solve(chunk, weights, mean.reshape(chunk.shape))
        return merged.astype(np.float32).reshape(-1)

    def _solve(self, chunk: Chunk, weights: Weights, mean: Rows) -> Doubles:
        rows, columns = chunk.shape
        grams, targets = np.zeros((columns, columns)), np.zeros((columns, rows))
        for position, row in enumerate(chunk.rows):
            gram = float(weights[position]) * self._shrunk(chunk, position)
            grams += gram
            targets += gram @ row.reshape(rows, columns).T.astype(np.float64)
        idle = np.flatnonzero(grams.diagonal() == 0.0)
        if grams[idle].any():
            raise _no_gram(chunk.tensor, "a value off the diagonal where the diagonal is 0")
        grams[idle, idle] = 1.0
        targets[idle] = mean.T[idle]
        return _solved(grams, targets, chunk.tensor)

    def _shrunk(self, chunk: Chunk, position: int) -> Doubles:
        """G̃ of one ingredient."""
        gram = chunk.statistics[position].astype(np.float64)
        diagonal = gram.diagonal().copy()
        if not np.isfinite(gram).all() or (diagonal < 0.0).any():
            raise _no_gram(chunk.tensor, f"a negative diagonal, NaN or infinity in ingredient {position}")
        gram *= self.off_diagonal
        np.fill_diagonal(gram, diagonal)
        return gram


def _solved(grams: Doubles, targets: Doubles, tensor: str) -> Doubles:
    try:
        # A solution exists for most singular matrices of floats, and means nothing.
        np.linalg.cholesky(grams)
        return np.asarray(np.linalg.solve(grams, targets).T, dtype=np.float64)
    except np.linalg.LinAlgError:
        found = "Gram matrices whose sum is not positive definite"
        raise _no_gram(tensor, found, "Σ x xᵀ of the layer's inputs, or a smaller off_diagonal") from None


def _no_gram(tensor: str, found: str, expected: str = "Σ x xᵀ of the layer's inputs") -> FileError:
    where = f"{Statistic.GRAM.file}: tensor '{tensor}'"
    return FileError("no Gram matrix", where=where, found=found, expected=expected)
