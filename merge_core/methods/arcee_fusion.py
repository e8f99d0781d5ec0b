"""Arcee Fusion: of a fine-tune's changes, those that stand out."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from merge_core.methods import thresholds
from merge_core.methods.contract import (
    Blocks,
    Chunk,
    Counts,
    Method,
    Partial,
    Reads,
    Rows,
    Space,
    State,
    Surveyed,
    Weights,
    refuse_weights,
)
from merge_core.methods.finite import refuse_infinite_rows
from merge_core.methods.searches import Searches
from merge_core.tensors import row_size

Doubles = NDArray[np.float64]

SLICE = 1 << 13
"""Elements whose softmax is taken at once; a longer row is taken whole."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """How far each row's softmax has moved, and the quartiles of importance as they are found."""

    divergences: Weights
    searches: Searches = ()

    @property
    def threshold(self) -> np.float64:
        """Median + 1.5 · (third − first quartile)."""
        first, median, third = (np.float64(search.magnitudes[0]) for search in self.searches)
        return median + 1.5 * (third - first)


class ArceeFusion(Method):
    """W₀ + λ · τ where |τ|·KL ≥ median + 1.5·(Q3 − Q1), the quartiles being those of |τ|·KL over the tensor.

    KL = Σ p ln(p/q), p = softmax(W) + eps and q = softmax(W₀) + eps over the row (one output; a 1-D tensor is one
    row, further dimensions are part of a row), in float64, at least 0; |τ|·KL in float32. The quartile of share s is
    the entry of rank ⌊s·(n−1)⌋ from below, exactly. A tensor that has not changed stays as it is. Takes one
    ingredient, without a weight. mergekit takes softmax over the last dimension, computes in the models' dtype (in
    bfloat16 a small KL is noise), and estimates the quartiles of tensors over a million entries from an unseeded
    sample. Arcee AI, 2024.
    """

    name: Literal["arcee_fusion"] = "arcee_fusion"
    eps: float = Field(default=1e-8, gt=0.0, le=1.0)
    space: ClassVar[Space] = "delta"
    reads: ClassVar[Reads] = "row"
    rounds: ClassVar[int] = 3
    most_inputs: ClassVar[int | None] = 1
    formula: ClassVar[str] = "W₀ + τ · [i ≥ median(i) + 1.5 (Q3(i) − Q1(i))], i = |τ| · KL(softmax W ‖ softmax W₀)"
    source: ClassVar[str] = "Arcee AI 2024, Arcee Fusion, https://github.com/arcee-ai/mergekit"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def blocks(self, shape: tuple[int, ...], size: int) -> int:
        return size // max(row_size(shape), 1)  # a vector of no entries is a row of none

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(3)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        if round_ == 0:
            refuse_infinite_rows(chunk.rows, chunk.tensor)
            return Blocks(_divergences(chunk, self.eps))
        importance = _importance(chunk, state.divergences)[None]
        if round_ == 1:
            return thresholds.survey_first(importance, chunk.tensor, so_far)
        return thresholds.survey_low(importance, state.searches, so_far)

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == 0:
            return Fusion(total.values.astype(np.float32))
        if round_ == 1:
            ranks = [np.array([over.size - int(share * (over.size - 1))]) for share in (0.25, 0.5, 0.75)]
            return replace(state, searches=thresholds.begin(total, ranks))
        return replace(state, searches=thresholds.proceed(total, over, state.searches))

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        stands_out = _importance(chunk, state.divergences) >= state.threshold
        return np.where(stands_out, chunk.rows[0], np.float32(0.0))


def _importance(chunk: Chunk, divergences: Weights) -> Rows:
    """|τ|·KL of each element, float32."""
    columns = row_size(chunk.shape)
    first = chunk.start // columns
    delta: Rows = np.abs(chunk.rows[0]).reshape(-1, columns)
    delta *= divergences[first : first + len(delta), None]
    flat: Rows = delta.reshape(-1)
    return flat


def _divergences(chunk: Chunk, eps: float) -> Doubles:
    """KL of each of the chunk's rows, float64, a few rows at a time so that little memory is used."""
    assert chunk.base is not None, "planning refuses a recipe without a base"
    columns = row_size(chunk.shape)
    deltas, bases = chunk.rows[0].reshape(-1, columns), chunk.base.reshape(-1, columns)
    step = max(SLICE // columns, 1)
    parts = [
        _divergence(deltas[first : first + step], bases[first : first + step], eps)
        for first in range(0, len(deltas), step)
    ]
    return np.concatenate(parts)


def _divergence(delta: Rows, base: Rows, eps: float) -> Doubles:
    """Σ p ln(p/q) of each row, at least 0: with eps in p and q it can come out a rounding below."""
    before = base.astype(np.float64)
    p, q = _softmax(before + delta) + eps, _softmax(before) + eps
    total: Doubles = (p * np.log(p / q)).sum(axis=1)
    return np.maximum(total, 0.0)


def _softmax(values: Doubles) -> Doubles:
    powers: Doubles = np.exp(values - values.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers
