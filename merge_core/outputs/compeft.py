"""ComPEFT: the largest entries of a delta, all of one magnitude, with their signs."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import PrivateAttr

from kernels.kth_magnitude.bins import kept_ties
from kernels.moments import (
    BEYOND,
    COLUMNS,
    SIGNED_BEYOND,
    SIGNED_TIES,
    SIZES_BEYOND,
    SQUARES,
    SUM,
    TIES,
    moments,
)
from kernels.ternary import ternarize
from merge_core.methods import (
    Blocks,
    Chunk,
    Counts,
    Method,
    Partial,
    Rows,
    Space,
    State,
    Surveyed,
    Weights,
    thresholds,
)
from merge_core.methods.searches import Search, Searches, numbered
from merge_core.recipe import TernaryOutput

Sums = NDArray[np.float64]

MADE = 4
"""Columns made of those that are kept: ties as integers, numbers of blocks, both in one, and a running sum."""


@dataclass(frozen=True, slots=True)
class Compressed:
    """A tensor's survey: the search for what is kept, then the value that its entries get."""

    searches: Searches
    value: float = 0.0


class Compeft(Method):
    """α·σ(τ)·sign(τ) for the `density` share of entries with the largest |τ|, and 0 for the rest.

    σ is the unbiased standard deviation of the full, unpruned τ; where there are fewer than two entries it is not
    defined, and the mean magnitude stands in. Exactly ⌈density · n⌉ entries are kept, of equal ones those with the
    lower index, and a kept 0 stays 0: a delta of zeros stays one. `scope` model takes n, the threshold and σ over
    all tensors, in the order of their names. `original` follows the authors' code: int(density · n) + 1 entries
    and all that equal the last. `magnitude` mean puts STC's mean magnitude of what is kept in the place of σ, and
    signed_mean what the authors' code has for it, the mean of the signed values, which may turn every sign.
    Yadav et al., "ComPEFT", 2023, https://arxiv.org/abs/2311.13171, section 2.

    What is found is noted for the file's header as it is concluded: its state is none that is kept between builds.
    """

    name: Literal["compeft"] = "compeft"
    output: TernaryOutput
    sizes: dict[str, int]
    space: ClassVar[Space] = "delta"
    bare: ClassVar[bool] = True
    rounds: ClassVar[int] = 3
    formula: ClassVar[str] = "α σ(τ) sign(τ) of the largest |τ|"
    source: ClassVar[str] = "Yadav et al. 2023, ComPEFT, https://arxiv.org/abs/2311.13171"
    _errors: dict[str, float] = PrivateAttr(default_factory=dict)

    @property
    def relative_errors(self) -> Mapping[str, float]:
        """‖τ − result‖ / ‖τ‖ of each tensor that has been surveyed; 0 for a delta of zeros."""
        return self._errors

    @property
    def surveys(self) -> Literal["tensor", "model"]:
        return self.output.scope

    def works_on(self, has_base: bool) -> Space:
        return "delta" if has_base else "weight"

    def kept(self, size: int) -> int:
        """How many of `size` entries are kept, ties at the threshold aside."""
        if self.output.convention == "original":
            return min(int(self.output.density * size) + 1, size)
        return thresholds.at_least(self.output.density, size)

    def survey_bytes(self, count: int) -> int:
        return thresholds.survey_bytes(count)

    def block_bytes(self, count: int) -> int:
        return 8 * (COLUMNS + MADE)

    def survey(self, round_: int, chunk: Chunk, weights: Weights, state: State, so_far: Counts | None) -> Partial:
        if round_ == 0:
            return thresholds.survey_first(chunk.source, chunk.tensor, so_far)
        if round_ == 1:
            return thresholds.survey_low(chunk.source, state.searches, so_far)
        (search,) = state.searches
        return Blocks(moments(chunk.rows[0], float(search.magnitudes[0])))

    def conclude(self, round_: int, total: Partial, over: Surveyed, weights: Weights, state: State) -> State:
        if round_ == 0:
            return Compressed(thresholds.begin(total, [np.full(1, self.kept(over.size))]))
        if round_ == 1:
            return Compressed(thresholds.proceed(total, over, state.searches))
        (search,) = state.searches
        ties = _ties_kept(total.values, search, self.output.convention)
        searches = state.searches
        if ties < total.values[:, TIES].sum():
            counts = numbered(total.values[:, TIES, None], -over.blocks.start)
            searches = thresholds.proceed(counts, over, searches)
        value = self._value(total.values.sum(axis=0), search, ties, over.size)
        self._errors[over.tensor] = self._relative_error(total.values, search, ties, over, value)
        return Compressed(searches, value)

    def _value(self, sums: Sums, search: Search, ties: int, size: int) -> float:
        """What an entry becomes, in float64."""
        magnitude, kept = float(search.magnitudes[0]), sums[BEYOND] + ties
        if self.output.magnitude == "std":
            return self.output.alpha * _spread(sums, size)
        if kept == 0:
            return 0.0
        if self.output.magnitude == "mean":
            return float(self.output.alpha * (sums[SIZES_BEYOND] + ties * magnitude) / kept)
        return float(self.output.alpha * (sums[SIGNED_BEYOND] + sums[SIGNED_TIES] * magnitude) / kept)

    def _relative_error(self, rows: Sums, search: Search, ties: int, over: Surveyed, value: float) -> float:
        """From sums: Σ(τ − v·s)² = Στ² − 2 v Σ|τ kept| + v² · entries."""
        own = slice(over.blocks.start, over.blocks.stop)
        sums, magnitude = rows[own].sum(axis=0), float(search.magnitudes[0])
        before = rows[: over.blocks.start, TIES].sum()
        own_ties = min(max(ties - before, 0.0), sums[TIES]) if magnitude > 0.0 and sums[TIES] else 0.0
        if sums[SQUARES] == 0.0:
            return 0.0
        kept = sums[SIZES_BEYOND] + (own_ties * magnitude if own_ties else 0.0)
        squared = sums[SQUARES] - 2.0 * value * kept + value * value * (sums[BEYOND] + own_ties)
        return sqrt(max(float(squared) / float(sums[SQUARES]), 0.0))

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        (search,) = state.searches
        row, cuts = chunk.rows[0], search.cuts(chunk.source, chunk.start)
        ties = int(kept_ties(cuts, chunk.start, row.size)[0])
        return ternarize(row, float(search.magnitudes[0]), ties, state.value)


def _ties_kept(rows: Sums, search: Search, convention: str) -> int:
    """How many of the entries equal to the threshold are kept; the authors' code keeps all of them."""
    assert search.low is not None, "sums are taken once the magnitude is known"
    return int(rows[:, TIES].sum()) if convention == "original" else int(search.low.ranks[0])


def _spread(sums: Sums, size: int) -> float:
    """The unbiased standard deviation; the magnitude of a single entry."""
    if size < 2:
        return sqrt(float(sums[SQUARES]))
    variance = float(sums[SQUARES] - sums[SUM] * sums[SUM] / size) / (size - 1)
    # Of entries that are all equal, rounding leaves about 1e-16 of their square.
    return sqrt(variance) if variance > 1e-13 * float(sums[SQUARES]) / size else 0.0
