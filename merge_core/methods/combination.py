"""Methods whose result is Σ c_t x_t with c_t found from the inner products ⟨x_i, x_j⟩ alone."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from kernels.gram import gram, row_gram
from merge_core.methods.contract import Blocks, Chunk, Counts, Method, Partial, Rows, State, Surveyed, Weights
from merge_core.methods.finite import refuse_infinite_sums
from merge_core.tensors import row_size

Doubles = NDArray[np.float64]

PRODUCTS = 1 << 14
"""Inner products of rows that are held at once, so that many short rows need no more memory than few long ones."""


class LinearCombination(Method):
    """Where `unit` is element: one set of coefficients for a tensor, found in a survey, so the merge streams.

    Where it is row: a set for each row, found in the merge itself, without a survey.
    """

    scans: ClassVar[bool] = True

    def coefficients(self, products: Doubles, weights: Doubles) -> Doubles:
        """float64 [rows, models] from the inner products of each row, float64 [rows, models, models], finite.

        A tensor as a whole is one row.
        """
        raise AssertionError("every linear combination writes its coefficients")

    def wants_round(self, round_: int, state: State) -> bool:
        return self.unit == "element"

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        return Blocks(gram(chunk.source))

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        products = total.values.sum(axis=0, dtype=np.float64)
        return self._solved(products[None], over.tensor, weights)[0]

    def combination(self, weights: Weights, state: State) -> Weights | None:
        return state if self.unit == "element" else None

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        if self.unit == "element":
            return super().merge(chunk, weights, state)
        return self.merge_rows(chunk.rows, row_size(chunk.shape), chunk.tensor, weights)

    def merge_rows(self, rows: Rows, columns: int, tensor: str, weights: Weights) -> Rows:
        """The merge of whole rows of so many columns, each with coefficients of its own."""
        merged = np.empty(rows.shape[1], dtype=np.float32)
        step = max(PRODUCTS // len(rows) ** 2, 1) * columns
        for start in range(0, merged.size, step):
            part = np.ascontiguousarray(rows[:, start : start + step])
            coefficients = self._solved(row_gram(part, columns), tensor, weights)
            merged[start : start + step] = _row_sums(part, coefficients, columns)
        return merged

    def _solved(self, products: Doubles, tensor: str, weights: Weights) -> Weights:
        refuse_infinite_sums(np.diagonal(products, axis1=1, axis2=2), tensor)
        return self.coefficients(products, weights.astype(np.float64)).astype(np.float32)


def _row_sums(rows: Rows, coefficients: Weights, columns: int) -> Rows:
    """Σ c_t x_t with a coefficient for each row [rows, models]; added in order of t in float32."""
    first, *others = (row.reshape(-1, columns) for row in rows)
    total: Rows = first * coefficients[:, :1]
    for position, row in enumerate(others, start=1):
        total += row * coefficients[:, position, None]
    return total.reshape(-1)


def norms_and_cosines(products: Doubles) -> tuple[Doubles, Doubles]:
    """‖x_i‖ [rows, models] and the cosines [rows, models, models] in [−1, 1]; 0 is the cosine with a zero input."""
    norms = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
    inverse = reciprocal(norms)
    return norms, np.clip(products * inverse[:, :, None] * inverse[:, None, :], -1.0, 1.0)


def reciprocal(values: Doubles) -> Doubles:
    """1/x, and 0 where x is 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values != 0.0)
