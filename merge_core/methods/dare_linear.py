"""DARE before task arithmetic: random entries of each task vector dropped, the rest rescaled, all added up."""

from typing import ClassVar, Literal

from pydantic import Field

from kernels.random_drop import drop_merge
from kernels.trim_elect.choices import Elect, Merge
from merge_core.methods.contract import Chunk, Method, Rows, State, Weights, normalized, refuse_zero_sum
from merge_core.methods.finite import refused_rows


class DareLinear(Method):
    """W₀ + λ Σ w_t τ̃_t, τ̃_t being τ_t with each entry dropped with probability 1 − density, the rest / density.

    Whether an entry stays is a pure function of the recipe's seed, the tensor's name, the ingredient's position and
    the element's index. Density 1 drops nothing, 0 gives the base. `rescale` false leaves the division out, and
    `normalize` divides by Σ w_t. mergekit draws from global state and rescales so that the sum of magnitudes stays
    as it was, where this keeps each entry's expectation. Yu et al., "Language models are super Mario", 2023,
    https://arxiv.org/abs/2311.03099, section 3.
    """

    name: Literal["dare_linear"] = "dare_linear"
    density: float = Field(default=1.0, ge=0.0, le=1.0)
    rescale: bool = True
    normalize: bool = False
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    formula: ClassVar[str] = "W₀ + λ Σ w_t τ̃_t, τ̃_t = τ_t / density with probability density, else 0"
    source: ClassVar[str] = "Yu et al. 2023, Language models are super Mario, https://arxiv.org/abs/2311.03099"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.normalize:
            refuse_zero_sum(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        shares = normalized(weights) if self.normalize else weights
        return merged(chunk, shares, self.density, self.rescale, "all")


def merged(
    chunk: Chunk,
    weights: Weights,
    density: float,
    rescale: bool,
    how: Merge,
    votes: Elect = "weighted",
    zero_vote_sign: int = 0,
) -> Rows:
    """The chunk's rows once DARE has dropped entries from them, merged as `how` says."""
    place = chunk.seed, chunk.tensor, chunk.start
    found = drop_merge(chunk.source, weights, *place, density, rescale, how, votes, zero_vote_sign)
    return refused_rows(chunk.rows, chunk.tensor) if found is None else found
