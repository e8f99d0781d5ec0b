"""What planning leaves to be done for a tensor: a merge of inputs, or a copy."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from merge_core.deltas import Delta, Gathered
from merge_core.methods import Method, Space
from merge_core.statistics import Values
from merge_core.stored import StoredTensor
from merge_core.tensors import TensorSpec


@dataclass(frozen=True, slots=True, eq=False)
class Merge:
    """One tensor to be computed; `spec` has the output's dtype. An input is a delta, or a merge of its own."""

    spec: TensorSpec
    method: Method
    weights: tuple[float, ...]
    scale: float
    seed: int
    base: "AnyBase | None"
    inputs: tuple["Delta | Merge", ...]
    statistics: tuple[StoredTensor, ...] = ()
    """One for each input, where the method reads a statistic of this tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def read(self) -> tuple["Delta | Merge", ...]:
        """The inputs, and the base where it is computed as well."""
        return self.inputs if self.base is None or isinstance(self.base, StoredTensor) else (*self.inputs, self.base)

    @property
    def space(self) -> Space:
        """What the method sees of each input: weights, or deltas from the base."""
        return self.method.works_on(self.base is not None)

    def statistics_at(self, start: int, size: int) -> tuple[Values, ...]:
        """What the statistics say of the flat elements [start, start + size)."""
        statistic = self.method.statistic
        return () if statistic is None else tuple(statistic.part(stored, start, size) for stored in self.statistics)


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """One tensor whose stored bytes are the result."""

    spec: TensorSpec
    stored: StoredTensor


TensorPlan = Merge | Copy
AnyBase = StoredTensor | Gathered | Merge
"""A base's tensor: as it is stored, with its rows in another order, or merged itself."""


@dataclass(frozen=True, slots=True)
class Input:
    """One ingredient, its names already those of the base. A `complete` one speaks of every tensor."""

    label: str
    deltas: Mapping[str, "Delta | Merge"]
    complete: bool
    statistics: Mapping[str, StoredTensor] = field(default_factory=dict)
