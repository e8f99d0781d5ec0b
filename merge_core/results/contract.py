"""What computes one tensor's stored result on one thread, and what a shortcut to it gets to see."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kernels.storage import storage_dtype
from kernels.stored_rows import StoredRows
from merge_core.deltas import Loader
from merge_core.methods import State, Weights
from merge_core.planning.tensors import Merge


class Result(Protocol):
    """The merged elements, chunk by chunk."""

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """Elements [start, start + size) in the output's dtype: rounded once, here. Valid until the next call."""


@dataclass(frozen=True, slots=True)
class Ready:
    """A merge whose surveys are done, with its inputs opened; `elements` is the largest chunk.

    `source` is the inputs, less their base for a method on deltas, where all of them are whole stored tensors.
    """

    merge: Merge
    weights: Weights
    state: State
    loaders: Sequence[Loader]
    source: StoredRows | None
    elements: int

    def room(self) -> NDArray[Any]:
        """Memory for a chunk of the result: allocated anew for each chunk, its pages would be cleared each time."""
        return np.empty(self.elements, storage_dtype(self.merge.spec.dtype.label))

    def coefficients(self) -> Weights | None:
        """What a sum multiplies its inputs by; None where the method does more than add up."""
        return None if self.merge.method.bare else self.merge.method.combination(self.weights, self.state)
