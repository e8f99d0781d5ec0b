"""What a merge method is: an optional survey that yields small totals, then an element-wise merge.

A method sees float32 rows of one chunk of one tensor, never a file, a dtype or a thread. Because a
survey's totals are small (thresholds, Gram matrices, norms), nearly every method streams: the engine
calls `merge` on any chunk, in any order, and the bytes are the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from kernels.gram import BLOCK
from kernels.stored_rows import StoredRows
from kernels.weighted_sum import weighted_sum
from merge_core.deltas import Delta
from merge_core.errors import RecipeError
from merge_core.statistics import Statistic

Space = Literal["weight", "delta"]
Reads = Literal["element", "row", "matrix"]

Rows = NDArray[np.float32]
Weights = NDArray[np.float32]
State = Any
"""What a method's surveys have found out about one tensor (or the whole model): its own small record."""


@dataclass(frozen=True)
class Chunk:
    """A run of elements of one tensor, as every ingredient has them.

    `rows` is float32 [ingredients, elements]: weights, or deltas from the base, as the method's `space` says.
    `base` is float32 [elements], None for a recipe without one. Both are computed when they are first asked for;
    kernels that take `source` have no need of them. `start` is the flat index of the first
    element. A method that reads rows or matrices gets whole rows of `shape`, as
    `merge_core.tensors.row_size` counts them. `merge` may overwrite `rows`; nobody reads them after it.
    `statistics` has an array for each ingredient where the method reads a statistic that the tensor has: of the
    same elements, or the whole matrix. It is read only and need not be finite.
    """

    source: Rows | StoredRows
    base_source: Rows | StoredRows | None
    start: int
    tensor: str
    shape: tuple[int, ...]
    seed: int
    statistics: tuple[Rows, ...] = ()

    @cached_property
    def rows(self) -> Rows:
        return self.source.load() if isinstance(self.source, StoredRows) else self.source

    @cached_property
    def base(self) -> Rows | None:
        base = self.base_source
        return base.load().reshape(-1) if isinstance(base, StoredRows) else base


@dataclass(frozen=True, slots=True)
class Counts:
    """A survey's partial that adds up exactly, so in any order: int64 of any shape."""

    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Blocks:
    """A survey's partial with a row, integers or float64, for each `kernels.gram.BLOCK` elements, or as `blocks` says.

    Rows are laid end to end, so that whoever sums them does so in element order.
    """

    values: NDArray[Any]

    @staticmethod
    def total(partials: Sequence["Blocks"]) -> "Blocks":
        """All of them, in the order given."""
        return Blocks(np.concatenate([partial.values for partial in partials]))


@dataclass(frozen=True, slots=True)
class Both(Counts):
    """Counts with blocks beside them, so that one reading of the data gives both."""

    blocks: Blocks


Partial = Counts | Blocks


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What a total was taken over: `size` elements; `blocks` are this tensor's rows of a `Blocks` total."""

    tensor: str
    size: int
    blocks: range


class Entries(Protocol):
    """A delta that knows its entries other than 0, which all have the magnitude `value`."""

    @property
    def count(self) -> int: ...

    @property
    def value(self) -> float: ...

    def place_of(self, rank: int) -> int:
        """The flat index of the `rank`-th entry, counted from 1."""


class Method(BaseModel):
    """A merge method with its parameters; a subclass is one file in this folder plus one line in `__init__`.

    A 0-d tensor is one element, and it and a 1-D tensor are one row; of a tensor without elements nothing is merged.
    What a density of 0 or 1, a zero delta and one input give, a method's docstring says where it is not the base,
    the base and that input.

    A survey runs `rounds` times over the tensor (`scope` tensor) or over every merged tensor (`scope` model).
    `survey` returns a partial for one chunk, and refuses values that it cannot count; the engine makes one total
    that does not depend on threads or chunks. `conclude` turns a round's total into the state that the next round
    and `merge` read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    space: ClassVar[Literal["weight", "delta"]]
    reads: ClassVar[Literal["element", "row", "matrix"]] = "element"
    rounds: ClassVar[int] = 0
    most_inputs: ClassVar[int | None] = None
    fewest_inputs: ClassVar[int] = 1
    needs_base: ClassVar[bool] = False
    """True for a method on weights that reads the base as well; one on deltas needs it in any case."""
    bare: ClassVar[bool] = False
    """True for a method whose merged delta is itself the result: it is not put on the base."""
    complete_inputs: ClassVar[bool] = True
    """False for a method that is defined on adapters only and refuses full checkpoints."""
    statistic: ClassVar[Statistic | None] = None
    """What every ingredient must publish beside its weights."""
    scans: ClassVar[bool] = False
    """True where `survey` looks at nothing but `source`, and at stored rows in no memory that grows with the chunk."""
    survey_ignores: ClassVar[frozenset[str]] = frozenset()
    """Parameters, and "weights", that neither `survey` nor `conclude` reads: what was found holds whatever they are."""
    formula: ClassVar[str]
    source: ClassVar[str]

    def works_on(self, has_base: bool) -> Space:
        """What the rows of a chunk are in a recipe with or without a base: mostly `space`."""
        return self.space

    @property
    def unit(self) -> Reads:
        """What a chunk holds whole: `reads`, unless the parameters ask for less or more."""
        return self.reads

    @property
    def copies(self) -> bool:
        """True when the stored bytes of the one ingredient are the result."""
        return False

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        """Whether survey totals belong to each tensor alone or to the whole model."""
        return "tensor"

    @classmethod
    def title(cls) -> str:
        """The name that recipes use."""
        return str(cls.model_fields["name"].default)

    def default_weight(self, count: int) -> float:
        """The weight of each of `count` ingredients that the recipe gives none."""
        return 1.0

    def check(self, weights: list[float], tensor: str) -> None:
        """Raise RecipeError where these weights have no defined result; called in planning."""

    def joined(self, inputs: Sequence[Delta], weights: Sequence[float], tensor: str, seed: int) -> Delta | None:
        """One delta that stands for all, for a method that merges what deltas are made of; called in planning.

        `merge` then gets its rows and the weight 1. Raises RecipeError for deltas that are made of something else.
        """
        return None

    @property
    def of_joined(self) -> "Method":
        """What merges the one delta that `joined` gives."""
        return self

    def settled(self, inputs: Sequence[Entries], size: int) -> State:
        """The state, where inputs that know their entries settle it; None where a survey is needed."""
        return None

    def wants_round(self, round_: int, state: State) -> bool:
        """False when what the earlier rounds found already settles the state."""
        return True

    def looks_at(self, round_: int, size: int, state: State) -> range:
        """The elements of a tensor of that size that a round is about: all, unless a round before has told where."""
        return range(size)

    def survey_bytes(self, count: int) -> int:
        """Memory that one thread's partials of `count` ingredients take, with what is made of them."""
        return 0

    def blocks(self, shape: tuple[int, ...], size: int) -> int:
        """The rows of `Blocks` that a survey gives for a chunk of so many elements of a tensor of that shape."""
        return -(-size // BLOCK)

    def block_bytes(self, count: int) -> int:
        """Memory that a survey of `count` ingredients keeps for each row of `Blocks`, with what is made of it."""
        return 8 * count * (count + 2) if self.rounds else 0

    def work_bytes(self, shape: tuple[int, ...], count: int) -> int:
        """Memory that merging a whole tensor of `shape` takes beside its chunk, for a method that reads matrices."""
        return 0

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        """`Blocks` of this chunk alone, `Counts` of it together with those `so_far`, whose memory it may reuse.

        Or both; `so_far` has the counts.
        """
        raise AssertionError("a method with rounds writes its survey")

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        raise AssertionError("a method with rounds writes its conclusion")

    def combination(self, weights: Weights, state: State) -> Weights | None:
        """The c_t, float32, of a method whose merge is Σ c_t x_t for every chunk, added up in the inputs' order.

        The engine computes such a sum without widening the inputs first, and keeps it low-rank where they are.
        """
        return None

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        """The merged weights (space weight) or the merged delta (space delta), float32 [elements]."""
        coefficients = self.combination(weights, state)
        assert coefficients is not None, "a method writes merge or its combination"
        return weighted_sum(chunk.rows, coefficients)


def normalized(weights: Weights) -> Weights:
    """w_t / Σ w_t, rounded once, from float64: three weights of 1 become the float32 nearest to 1/3."""
    exact = weights.astype(np.float64)
    shares: Weights = (exact / exact.sum()).astype(np.float32)
    return shares


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


def refuse_weights(weights: list[float], tensor: str) -> None:
    """Raise RecipeError when a method that has no use for weights is given some."""
    if any(weight != 1.0 for weight in weights):
        raise RecipeError(
            f"tensor '{tensor}': this method gives its inputs no weights",
            where="ingredients[].weight",
            found=f"{weights}",
            expected="no weight, or 1",
        )
