"""Sums of whole stored tensors: from their bytes to the result's, to the bit what the rows would give."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from kernels.stored_elements import Stored
from kernels.stored_sum import stored_delta_sum, stored_sum
from merge_core.deltas import ReplacementLoader
from merge_core.methods import Weights
from merge_core.planning.tensors import Merge
from merge_core.results.contract import Ready
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True)
class WholeSum:
    """Σ c_t W_t, or W₀ + λ Σ c_t (W_t − W₀)."""

    merge: Merge
    inputs: list[Stored]
    coefficients: Weights
    room: NDArray[Any]

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """In one pass over the chunk."""
        base, label, out = self.merge.base, self.merge.spec.dtype.label, self.room[:size]
        inputs = [(raw[start : start + size], kind) for raw, kind in self.inputs]
        if self.merge.space == "weight":
            return stored_sum(inputs, self.coefficients, label, out)
        assert isinstance(base, StoredTensor), "planning refuses a delta method without a base"
        own = base.storage()[start : start + size], base.spec.dtype.label
        return stored_delta_sum(own, inputs, self.coefficients, self.merge.scale, label, out)


def result(ready: Ready) -> WholeSum | None:
    """None where an input is not a whole stored tensor, or the method does more than add up."""
    coefficients = ready.coefficients()
    inputs = [(loader.raw, loader.label) for loader in ready.loaders if isinstance(loader, ReplacementLoader)]
    is_stored = len(inputs) == len(ready.loaders) and isinstance(ready.merge.base, StoredTensor | None)
    if coefficients is None or not is_stored:
        return None
    return WholeSum(ready.merge, inputs, coefficients, ready.room())
