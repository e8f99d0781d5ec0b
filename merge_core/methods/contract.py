"""What a merge method is: an optional survey that yields small totals, then an element-wise merge.

A method sees float32 rows of one chunk of one tensor, never a file, a dtype or a thread. Because a
survey's totals are small (thresholds, Gram matrices, norms), nearly every method streams: the engine
calls `merge` on any chunk, in any order, and the bytes are the same.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from merge_core.errors import RecipeError

Rows = NDArray[np.float32]
Weights = NDArray[np.float32]
Partial = NDArray[np.int64] | NDArray[np.float64]
State = Any
"""What a method's surveys have found out about one tensor (or the whole model): its own small record."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A run of elements of one tensor, as every ingredient has them.

    `rows` is float32 [ingredients, elements]: weights, or deltas from the base, as the method's `space` says.
    `base` is float32 [elements], None for a recipe without one. `start` is the flat index of the first
    element. A method that reads rows or matrices gets whole rows of `shape`.
    """

    rows: Rows
    base: Rows | None
    start: int
    tensor: str
    shape: tuple[int, ...]
    seed: int


class Method(BaseModel):
    """A merge method with its parameters; a subclass is one file in this folder plus one line in `__init__`.

    A survey runs `rounds` times over the tensor (`scope` tensor) or over every merged tensor (`scope` model).
    `survey` returns either int64 totals, which the engine adds in any order, or float64 [blocks, …] partials,
    one row for each `BLOCK` elements, which it concatenates in element order: either way the result does
    not depend on threads or chunks. `conclude` turns a round's total into the state the next round reads.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    space: ClassVar[Literal["weight", "delta"]]
    reads: ClassVar[Literal["element", "row", "matrix"]] = "element"
    rounds: ClassVar[int] = 0
    most_inputs: ClassVar[int | None] = None
    fewest_inputs: ClassVar[int] = 1
    formula: ClassVar[str]
    source: ClassVar[str]

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        """Whether survey totals belong to each tensor alone or to the whole model."""
        return "tensor"

    def check(self, weights: list[float], tensor: str) -> None:
        """Raise RecipeError where these weights have no defined result; called in planning."""

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State) -> Partial:
        raise AssertionError("a method with rounds writes its survey")

    def conclude(self, round_: int, total: Partial, size: int, weights: Weights, state: State) -> State:
        raise AssertionError("a method with rounds writes its conclusion")

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        """The merged weights (space weight) or the merged delta (space delta), float32 [elements]."""
        raise AssertionError("every method writes merge")


def refuse_zero_sum(weights: list[float], tensor: str) -> None:
    """Raise RecipeError when weights that are about to be normalised sum to nothing."""
    total = float(np.sum(np.asarray(weights, dtype=np.float64)))
    if abs(total) < 1e-8:
        raise RecipeError(
            f"tensor '{tensor}': weights cannot be normalised",
            where="ingredients[].weight",
            found=f"{weights}, which sum to {total:g}",
            expected="a sum other than 0, or normalize: false",
        )
