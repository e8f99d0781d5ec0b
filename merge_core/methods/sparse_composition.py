"""Sparse fine-tunings composed: added up, each through a mask where it is not sparse yet."""

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from kernels.weighted_sum import weighted_sum
from merge_core.errors import RecipeError
from merge_core.methods import thresholds
from merge_core.methods.contract import Chunk, Counts, Method, Partial, Rows, State, Surveyed, Weights

MOST_INGREDIENTS = 1000


class Mask(BaseModel):
    """Which entries of an ingredient count, by one of four rules.

    `top`: the k with the largest |τ| in the whole model, those equal to the k-th as well. `density`: the same for
    ⌈density · n⌉. `threshold`: |τ| above it. `support_of`: the entries that another ingredient has after its own
    mask. With `beside`, the entries of that ingredient count too, and are left out of the k: the next round of
    lottery tickets.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)

    top: int | None = Field(default=None, ge=0, lt=2**53)
    density: float | None = Field(default=None, ge=0.0, le=1.0)
    threshold: float | None = Field(default=None, ge=0.0)
    support_of: int | None = Field(default=None, ge=0)
    beside: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_rule(self) -> "Mask":
        rules = [self.top, self.density, self.threshold, self.support_of]
        if sum(rule is not None for rule in rules) != 1:
            raise ValueError("a mask has one of top, density, threshold and support_of")
        return self

    @property
    def counts(self) -> bool:
        return self.top is not None or self.density is not None

    @property
    def others(self) -> list[int]:
        return [other for other in (self.support_of, self.beside) if other is not None]


class SparseComposition(Method):
    """W₀ + λ Σ w_t M_t ⊙ τ_t: a language's and a task's fine-tuning in one model; w_t = −1 takes one back out.

    `masks` has a mask or null for each ingredient; without it every τ_t counts whole. Tensors that an ingredient
    replaces whole (`abs` of a sparse fine-tuning, trained heads) are no deltas: they are taken from the last
    ingredient that has them, its weight notwithstanding, and only from those that `with_abs` marks; without
    `with_abs`, from those with a weight above 0. Ansell et al., "Composable Sparse Fine-Tuning for Cross-Lingual
    Transfer", 2022, https://arxiv.org/abs/2110.07560, section 3.
    """

    name: Literal["sparse_composition"] = "sparse_composition"
    with_abs: Annotated[tuple[bool, ...], Field(strict=False, max_length=MOST_INGREDIENTS)] | None = None
    masks: Annotated[tuple[Mask | None, ...], Field(strict=False, max_length=MOST_INGREDIENTS)] | None = None
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    rounds: ClassVar[int] = 2
    survey_ignores: ClassVar[frozenset[str]] = frozenset({"weights", "with_abs"})
    formula: ClassVar[str] = "W₀ + λ Σ w_t M_t ⊙ τ_t"
    source: ClassVar[str] = "Ansell et al. 2022, Composable Sparse Fine-Tuning, https://arxiv.org/abs/2110.07560"

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        return "model" if self._ranked else "tensor"

    @property
    def _ranked(self) -> bool:
        return any(mask is not None and mask.counts for mask in self.masks or ())

    def whole_from(self, weights: Sequence[float]) -> list[bool]:
        """Whether each ingredient's whole tensors count."""
        return [weight > 0 for weight in weights] if self.with_abs is None else list(self.with_abs)

    def check(self, weights: list[float], tensor: str) -> None:
        for field, value in (("with_abs", self.with_abs), ("masks", self.masks)):
            if value is not None and len(value) != len(weights):
                where, expected = f"method.{field}", f"one for each of {len(weights)} ingredients"
                raise RecipeError("the list has another length", where=where, found=len(value), expected=expected)
        for position, mask in enumerate(self.masks or ()):
            self._check_others(position, mask, len(weights))

    def _check_others(self, position: int, mask: Mask | None, count: int) -> None:
        for other in mask.others if mask is not None else ():
            theirs = self.masks[other] if self.masks is not None and other < count else None
            if other >= count or other == position or (theirs is not None and theirs.others):
                where, expected = f"method.masks[{position}]", "another ingredient, whose mask stands by itself"
                raise RecipeError("a mask is taken from an ingredient", where=where, found=other, expected=expected)

    def wants_round(self, round_: int, state: State) -> bool:
        return self._ranked

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(count) if self._ranked else 0

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        rows = self._counted(chunk.rows)
        if round_ == 0:
            return thresholds.survey_first(rows, chunk.tensor, so_far)
        return thresholds.survey_low(rows, state, so_far)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == 0:
            ranks = [_rank(mask, over.size) for mask in self.masks or ()]
            return thresholds.begin(total, [np.array(ranks, dtype=np.int64)])
        return thresholds.proceed(total, over, state)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        if self.masks is None:
            return weighted_sum(chunk.rows, weights)
        masks = self._masks(chunk.rows, None if state is None else state[0].magnitudes)
        return weighted_sum(np.where(masks, chunk.rows, np.float32(0)), weights)

    def _counted(self, rows: Rows) -> Rows:
        """The entries among which the largest are looked for: not those that count anyway."""
        besides = [(at, mask.beside) for at, mask in enumerate(self.masks or ()) if mask is not None]
        if all(beside is None for _, beside in besides):
            return rows
        counted = rows.copy()
        for at, beside in besides:
            if beside is not None:
                counted[at, rows[beside] != 0] = 0.0
        return counted

    def _masks(self, rows: Rows, magnitudes: Weights | None) -> NDArray[np.bool_]:
        assert self.masks is not None, "asked for where there are masks"
        found = np.ones(rows.shape, dtype=np.bool_)
        for at, mask in enumerate(self.masks):
            if mask is not None and mask.support_of is None:
                found[at] = _kept(mask, rows[at], magnitudes[at] if magnitudes is not None else np.float32(0))
        supports = found & (rows != 0)
        for at, mask in enumerate(self.masks):
            if mask is not None and mask.support_of is not None:
                found[at] = supports[mask.support_of]
            if mask is not None and mask.beside is not None:
                found[at] |= supports[mask.beside]
        return found


def _rank(mask: Mask | None, size: int) -> int:
    if mask is None or not mask.counts:
        return 0
    return min(mask.top, size) if mask.top is not None else thresholds.at_least(mask.density or 0.0, size)


def _kept(mask: Mask, row: Rows, magnitude: np.float32) -> NDArray[np.bool_]:
    size = np.abs(row)
    return size > np.float32(mask.threshold) if mask.threshold is not None else size >= magnitude
