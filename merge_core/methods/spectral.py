"""What methods on singular values share: whole matrices in float64, their numerical rank, one thread for LAPACK."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from kernels.weighted_sum import weighted_sum
from merge_core.deltas import Delta
from merge_core.methods.contract import Chunk, Method, Reads, Rows, Space, State, Weights
from merge_core.methods.core import Core, CoreDelta, Sides, all_low_rank
from merge_core.methods.finite import refuse_infinite_rows
from merge_core.methods.lapack import decomposing

NEGLIGIBLE = 1e-6
"""Singular values up to this share of the largest count as 0: float32 products of low rank have noise near 1e-7."""

Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Tasks:
    """The matrices w_t τ_t, each in float64 when asked for: `rows` is [tasks, m, n].

    `whole` is the shape of the weight, where the matrices stand for larger ones in core space.
    """

    rows: NDArray[Any]
    weights: Weights
    whole: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Doubles]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Doubles:
        matrix: Doubles = self.rows[position].astype(np.float64)
        matrix *= float(self.weights[position])
        return matrix

    @property
    def shape(self) -> tuple[int, int]:
        _, m, n = self.rows.shape
        return m, n

    @property
    def directions(self) -> int:
        """The most singular values that a task can have, whether or not it is of low rank."""
        return min(self.whole or self.shape)

    def total(self) -> Doubles:
        """Σ w_t τ_t."""
        total = self[0]
        for position in range(1, len(self)):
            total += self[position]
        return total


class SpectralMethod(Method):
    """A method on deltas that sees a whole matrix; the weight of an ingredient multiplies its τ before all else.

    A tensor that is not a matrix gets the mean of w_t τ_t, as does one with fewer rows or columns than `narrowest`
    says.
    """

    space: ClassVar[Space] = "delta"
    reads: ClassVar[Reads] = "matrix"
    sides: ClassVar[Sides] = "both"
    """Which sides of the tasks may be turned, all alike, with the result turning along: outputs only, or inputs too."""

    @property
    def of_joined(self) -> Method:
        return IN_CORE

    def joined(self, inputs: Sequence[Delta], weights: Sequence[float], tensor: str, seed: int) -> Delta | None:
        """The merge in core space, where every input is of low rank: the same, without the large matrices."""
        if len(inputs) != len(weights) or not all_low_rank(inputs) or not self._is_matrix(inputs[0].shape, len(inputs)):
            return None
        merge = partial(self.merge_core, weights=weights, tensor=tensor, seed=seed)
        return CoreDelta(inputs, tensor, self.title(), self.sides, merge, partial(self.core_bytes, count=len(inputs)))

    def merge_core(self, core: Core, weights: Sequence[float], tensor: str, seed: int) -> Doubles:
        """The merge of tasks in core space, as a matrix there."""
        tasks = Tasks(core.tasks, np.array(weights, dtype=np.float32), core.whole)
        place = Chunk(np.empty((len(weights), 0), np.float32), None, 0, tensor, tasks.shape, seed)
        with decomposing(tensor, self.title()):
            return self.merge_matrices(tasks, place)

    def core_bytes(self, rows: int, columns: int, count: int) -> int:
        """What `merge_core` of tasks [rows, columns] takes."""
        return self.matrix_bytes(rows, columns, count)

    @abstractmethod
    def merge_matrices(self, tasks: Tasks, chunk: Chunk) -> Doubles:
        """The merged delta, float64 [m, n], of one or more matrices that are not empty."""

    def takes_as_it_is(self, weights: Weights) -> bool:
        """Whether w τ of one input is the result: not computed, it is that to the bit."""
        return False

    def narrowest(self, count: int) -> int:
        """The fewest rows and columns that a matrix of `count` tasks needs in order not to count as a vector."""
        return 1

    def work_bytes(self, shape: tuple[int, ...], count: int) -> int:
        return self.matrix_bytes(shape[0], shape[1], count) if self._is_matrix(shape, count) else 0

    @abstractmethod
    def matrix_bytes(self, m: int, n: int, count: int) -> int:
        """What `merge_matrices` of `count` tasks [m, n] takes."""

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        refuse_infinite_rows(chunk.rows, chunk.tensor)
        count = len(weights)
        if not self._is_matrix(chunk.shape, count) or self.takes_as_it_is(weights):
            return weighted_sum(chunk.rows, (weights / np.float64(count)).astype(np.float32))
        with decomposing(chunk.tensor, self.title()):
            merged = self.merge_matrices(Tasks(chunk.rows.reshape(count, *chunk.shape), weights), chunk)
        return merged.astype(np.float32).reshape(-1)

    def _is_matrix(self, shape: tuple[int, ...], count: int) -> bool:
        return len(shape) == 2 and min(shape) >= self.narrowest(count)


class InCore(Method):
    """What is left to do once `joined` has merged in core space: the product of the factors, row by row."""

    name: Literal["core_space"] = "core_space"
    space: ClassVar[Space] = "delta"
    formula: ClassVar[str] = "W₀ + λ U_B M V_Aᵀ"
    source: ClassVar[str] = "Panariello et al. 2025, https://arxiv.org/abs/2509.17786"

    def combination(self, weights: Weights, state: State) -> Weights:
        return weights


IN_CORE = InCore()


@dataclass(frozen=True, slots=True)
class Svd:
    """U diag(σ) Vᵀ with σ falling: `u` [m, rank], `sigma` [rank], `vt` [rank, n]."""

    u: Doubles
    sigma: Doubles
    vt: Doubles

    def top(self, count: int) -> "Svd":
        """The `count` largest, or all where there are fewer."""
        return Svd(self.u[:, :count], self.sigma[:count], self.vt[:count])

    def above(self, least: float) -> "Svd":
        """Those with σ > `least`."""
        return self.top(int(np.count_nonzero(self.sigma > least)))


def thin_svd(matrix: Doubles) -> Svd:
    """The singular values that are not negligible beside the largest, with their vectors; none of a zero matrix."""
    if matrix.size == 0:
        m, n = matrix.shape
        return Svd(np.zeros((m, 0)), np.zeros(0), np.zeros((0, n)))
    found = Svd(*np.linalg.svd(matrix, full_matrices=False))
    return found.above(NEGLIGIBLE * float(found.sigma[0]))


def polar(matrix: Doubles) -> Doubles:
    """P Qᵀ of `matrix` = P Σ Qᵀ: the nearest with orthonormal columns. Directions of negligible Σ are left out."""
    found = thin_svd(matrix)
    return found.u @ found.vt


def svd_bytes(m: int, n: int) -> int:
    """What `thin_svd` of [m, n] takes beside its input: its copy, both factors twice, LAPACK's workspace."""
    k = min(m, n)
    return 8 * (m * n + 2 * k * (m + n) + 5 * k * k + 128 * (m + n))
