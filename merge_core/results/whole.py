"""Sums of whole stored tensors: from their bytes to the result's, to the bit what the rows would give."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from kernels.stored_elements import Stored, part
from kernels.stored_sum import stored_delta_sum, stored_sum
from merge_core.deltas import Replacement
from merge_core.methods import Weights
from merge_core.planning.tensors import Merge
from merge_core.results.contract import Ready
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True)
class WholeSum:
    """Σ c_t W_t, or W₀ + λ Σ c_t (W_t − W₀)."""

    merge: Merge
    base: Stored | None
    inputs: list[Stored]
    coefficients: Weights
    room: NDArray[Any]

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """In one pass over the chunk."""
        label, out = self.merge.spec.dtype.label, self.room[:size]
        inputs = [part(stored, start, size) for stored in self.inputs]
        if self.base is None:
            return stored_sum(inputs, self.coefficients, label, out)
        base = part(self.base, start, size)
        return stored_delta_sum(base, inputs, self.coefficients, self.merge.scale, label, out)


def result(ready: Ready) -> WholeSum | None:
    """None where an input is not a whole stored tensor, or the method does more than add up."""
    coefficients, merge = ready.coefficients(), ready.merge
    stored = [entry.stored.labelled() for entry in merge.inputs if isinstance(entry, Replacement)]
    if coefficients is None or len(stored) < len(merge.inputs) or not isinstance(merge.base, StoredTensor | None):
        return None
    base = None if merge.space == "weight" or merge.base is None else merge.base.labelled()
    return WholeSum(merge, base, stored, coefficients, ready.room())
