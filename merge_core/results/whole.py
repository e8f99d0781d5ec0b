"""Sums of whole stored tensors: from their bytes to the result's, to the bit what the rows would give."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from kernels.stored_rows import StoredRows
from kernels.stored_sum import stored_delta_sum, stored_sum
from merge_core.methods import Weights
from merge_core.planning.tensors import Merge
from merge_core.results.contract import Ready


@dataclass(frozen=True, slots=True)
class WholeSum:
    """Σ c_t W_t, or W₀ + λ Σ c_t (W_t − W₀)."""

    merge: Merge
    rows: StoredRows
    coefficients: Weights
    room: NDArray[Any]

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """In one pass over the chunk."""
        label, rows, out = self.merge.spec.dtype.label, self.rows.run(start, size), self.room[:size]
        if self.merge.space == "weight":
            return stored_sum(rows, self.coefficients, label, out)
        return stored_delta_sum(rows, self.coefficients, self.merge.scale, label, out)


def result(ready: Ready) -> WholeSum | None:
    """None where an input is not a whole stored tensor, or the method does more than add up."""
    coefficients = ready.coefficients()
    if coefficients is None or ready.source is None:
        return None
    return WholeSum(ready.merge, ready.source, coefficients, ready.room())
