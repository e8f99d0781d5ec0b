"""LoRA adapters merged factor by factor, as PEFT and LoraHub do: small, and not the sum of what they change."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from merge_core.deltas import Absent, Delta, LowRank
from merge_core.errors import RecipeError
from merge_core.methods.breadcrumbs import Breadcrumbs
from merge_core.methods.contract import Chunk, Method, Rows, Space, State, Weights
from merge_core.methods.dare_linear import DareLinear
from merge_core.methods.dare_ties import DareTies
from merge_core.methods.knots import merge_whole
from merge_core.methods.merged_factors import MergedFactors, Part
from merge_core.methods.task_arithmetic import TaskArithmetic
from merge_core.methods.ties import Ties, Votes


class ApproximateFactors(Method):
    """W₀ + λ B A, A merged from the A_t alone and B from the B_t alone: cross terms B_i A_j come in.

    The plan says how far that is from Σ w_t s_t B_t A_t, which task_arithmetic computes. `merge_by` is how PEFT's
    add_weighted_adapter merges: linear, ties and dare_ties (without weights in the vote, + wins a cancelled one,
    divided by the number that agree; `votes` is its majority_sign_method), dare_linear, or magnitude_prune, which
    keeps int(density·n) entries. `weigh` root puts √|w_t s_t| on each factor and the sign on A, as PEFT does; both
    puts w_t on A_t and w_t s_t on B_t, as LoraHub does, where weights enter squared. Adapters must have one rank;
    one that leaves a weight alone has no part in it; density 0 gives the base. PEFT keeps rsLoRA's √r in the merged
    config: `scale` says the same. Huang et al., "LoraHub", 2023, https://arxiv.org/abs/2307.13269, section 3.
    """

    name: Literal["approximate_factors"] = "approximate_factors"
    merge_by: Literal["linear", "ties", "dare_linear", "dare_ties", "magnitude_prune"] = "linear"
    density: float = Field(default=1.0, ge=0.0, le=1.0)
    votes: Votes = "total"
    weigh: Literal["root", "both"] = "root"
    space: ClassVar[Space] = "delta"
    complete_inputs: ClassVar[bool] = False
    formula: ClassVar[str] = "W₀ + λ (Σ √(w_t s_t) B_t)(Σ √(w_t s_t) A_t)"
    source: ClassVar[str] = "PEFT, add_weighted_adapter; Huang et al. 2023, LoraHub, https://arxiv.org/abs/2307.13269"

    def joined(self, inputs: Sequence[Delta], weights: Sequence[float], tensor: str, seed: int) -> Delta:
        parts = [
            self._part(position, delta, weight, tensor)
            for position, (delta, weight) in enumerate(zip(inputs, weights, strict=True))
            if not isinstance(delta, Absent)
        ]
        _check_alike([part.delta for part in parts], tensor)
        return MergedFactors(tuple(parts), tensor, seed, self._merge_factor, TaskArithmetic().survey_bytes(len(parts)))

    def combination(self, weights: Weights, state: State) -> Weights:
        return weights

    def _part(self, position: int, delta: Delta, weight: float, tensor: str) -> Part:
        if not isinstance(delta, LowRank):
            message, found = "only LoRA factors are merged by factor", f"{delta.kind} in ingredient {position}"
            expected = "low_rank, or method task_arithmetic"
            raise RecipeError(message, where=f"tensor '{tensor}'", found=found, expected=expected)
        if self.weigh == "both":
            return Part(position, delta, weight, weight, weight * delta.scale)
        root = float(np.sqrt(abs(weight * delta.scale)))
        return Part(position, delta, weight, root if weight * delta.scale >= 0 else -root, root)

    def _merge_factor(self, chunk: Chunk, weights: Weights) -> Rows:
        return merge_whole(self._inner(chunk.rows.shape[1]), chunk, weights)

    def _inner(self, size: int) -> Method:
        """The method that merges factors of `size` entries."""
        if self.merge_by == "ties":
            return Ties(density=self.density, convention="peft", votes=self.votes)
        if self.merge_by == "dare_ties":
            return DareTies(density=self.density, convention="peft", votes=self.votes)
        if self.merge_by == "dare_linear":
            return DareLinear(density=self.density)
        if self.merge_by == "magnitude_prune":
            return Breadcrumbs(density=int(self.density * size) / size, gamma=0.0)
        return TaskArithmetic()


def _check_alike(deltas: list[LowRank], tensor: str) -> None:
    """Raise RecipeError unless the factors have one rank and one layout."""
    first = deltas[0]
    for delta in deltas:
        if (delta.rank, delta.transposed) != (first.rank, first.transposed):
            found = f"rank {first.rank} and {delta.rank}" if delta.rank != first.rank else "one stored transposed"
            expected = "adapters of one rank and layout, or method task_arithmetic"
            raise RecipeError("the factors do not add up", where=f"tensor '{tensor}'", found=found, expected=expected)
