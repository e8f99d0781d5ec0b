"""DARE before task arithmetic: random entries of each task vector dropped, the rest rescaled, all added up."""

from typing import ClassVar, Literal

from pydantic import Field

from kernels.random_drop import random_drop
from merge_core.methods.contract import Chunk, Method, Rows, State, Weights, refuse_infinite_rows, refuse_zero_sum
from merge_core.methods.sparse_rows import add_up


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
        return add_up(dropped(chunk, self.density, self.rescale), weights, self.normalize)


def dropped(chunk: Chunk, density: float, rescale: bool) -> Rows:
    """The chunk's rows once DARE has dropped entries from them, in their place."""
    refuse_infinite_rows(chunk.rows, chunk.tensor)
    return random_drop(chunk.rows, chunk.seed, chunk.tensor, chunk.start, density, rescale, chunk.rows)
