"""What an artefact may publish beside its weights for methods that weigh entries by what the data says of them.

A statistic is one safetensors file; docs/statistics.md says what is in it and how it is computed.
"""

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from merge_core.stored import StoredTensor
from merge_core.tensors import DType

Values = NDArray[np.float32]


class Statistic(Enum):
    """A kind of statistic, by the file that holds it: float32 tensors under the names of the weights they are of."""

    FISHER = "fisher.safetensors"
    """The diagonal of the Fisher information, for each element of each weight."""
    GRAM = "regmean_gram.safetensors"
    """Σ x xᵀ over the inputs x of a linear layer, [in, in] for its weight [out, in]."""

    @property
    def file(self) -> str:
        return self.value

    @property
    def is_of_each_weight(self) -> bool:
        """False where weights without the statistic have a merge of their own."""
        return self is Statistic.FISHER

    def shape(self, weight: tuple[int, ...]) -> tuple[int, ...] | None:
        """The statistic's shape for a weight of this shape; None where there is none of such a weight."""
        if self is Statistic.FISHER:
            return weight
        return (weight[1], weight[1]) if len(weight) == 2 else None

    def part(self, stored: StoredTensor, start: int, size: int) -> Values:
        """What belongs to the flat elements [start, start + size) of the weight: as many, or the whole matrix."""
        values: Values = stored.storage()
        return values[start : start + size] if self is Statistic.FISHER else values.reshape(stored.spec.shape)


FILES = tuple(statistic.file for statistic in Statistic)
DTYPE = DType.F32
