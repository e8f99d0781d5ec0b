"""Parameter competition balancing: entries weighed by how they compete within and between tasks."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kernels.competition import Span, balance_histogram, compete
from merge_core.methods import thresholds
from merge_core.methods.contract import Chunk, Counts, Method, Partial, Rows, State, Surveyed, Weights
from merge_core.methods.searches import Searches
from merge_core.methods.thresholds import at_least

TAIL = 0.0001
"""The share of entries at either end whose magnitude is clamped."""

CHUNK_BYTES = 4 << 18


@dataclass(frozen=True, slots=True)
class Competition:
    """The magnitudes between which each task is clamped, and the β between which its shares rise from 0 to 1."""

    magnitudes: Searches
    betas: Searches = ()

    @property
    def clamp(self) -> Span:
        low, high = self.magnitudes
        return low.magnitudes, high.magnitudes

    @property
    def span(self) -> Span:
        """Of β ≥ 0 and −β ≥ 0 searched apart: where no positive one has the rank, a negative one may have it."""
        tasks = len(self.betas[0].magnitudes) // 2
        floor, top = (
            np.where(found[:tasks] > 0, found[:tasks], -found[tasks:])
            for found in (search.magnitudes for search in self.betas)
        )
        return floor, top


class Pcb(Method):
    """W₀ + λ Σ w_t τ̃_t s_t / Σ s_t, s_t being the `density` share of strongest competitors, from 0 to 1.

    τ̃ is τ with the 0.01 % of smallest and of largest magnitudes clamped; β_t = exp(T·m²) · tanh(τ_t Σ τ) with m the
    clamped |τ_t| brought to [0, 1]; s_t is β_t brought to [0, 1] between the smallest of the ⌈density·n⌉ largest and
    the largest, so that all others count as 0. Both are over all tensors that some ingredient changes, n entries
    in all. Where they are one value, s is 1 for a positive β that reaches it; where no task has a share, or density
    is 0, the base stays. The paper's λ is 1.2: the recipe's `scale`. Du et al., "Parameter Competition Balancing for
    Model Merging", 2024, https://arxiv.org/abs/2410.02396, section 3.2.
    """

    name: Literal["pcb"] = "pcb"
    density: float = Field(default=0.05, ge=0.0, le=1.0)
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    rounds: ClassVar[int] = 4
    scans: ClassVar[bool] = True
    survey_ignores: ClassVar[frozenset[str]] = frozenset({"weights"})
    formula: ClassVar[str] = "W₀ + λ Σ w_t τ̃_t s_t / Σ s_t, s_t = minmax of the top share of exp(T·m²) · tanh(τ_t Σ τ)"
    source: ClassVar[str] = "Du et al. 2024, Parameter Competition Balancing, https://arxiv.org/abs/2410.02396"

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        return "model"

    def survey_bytes(self, count: int) -> int:
        # A histogram for β of each sign.
        return thresholds.survey_bytes(2 * count)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        if round_ == 0:
            return thresholds.survey_first(chunk.source, chunk.tensor, so_far)
        if round_ == 1:
            return thresholds.survey_low(chunk.source, state.magnitudes, so_far)
        prefixes = None if round_ == 2 else np.stack([thresholds.begun(search).bins for search in state.betas])
        counted = None if so_far is None else so_far.values
        return Counts(balance_histogram(chunk.source, state.clamp, prefixes, counted))

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == 0:
            return Competition(thresholds.begin(total, [np.full(len(weights), rank) for rank in _tails(over.size)]))
        if round_ == 1:
            return Competition(thresholds.proceed(total, over, state.magnitudes))
        if round_ == 2:
            ranks = (max(at_least(self.density, over.size), 1), 1)
            signed = [np.repeat([rank, over.size + 1 - rank], len(weights)) for rank in ranks]
            return replace(state, betas=thresholds.begin(Counts(total.values[0]), signed))
        return replace(state, betas=thresholds.proceed(total, over, state.betas))

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        if self.density == 0:
            return np.zeros(chunk.source.shape[1], dtype=np.float32)
        return compete(chunk.source, weights, state.clamp, state.span)


def _tails(size: int) -> tuple[int, int]:
    """The ranks, from the largest, of the magnitudes that the tails are clamped to."""
    return size - int(size * TAIL), size - max(int(size * (1 - TAIL) - 1), 0)
