"""RAM: what one model alone has learnt is kept whole, what several have is averaged."""

from typing import ClassVar, Literal

from pydantic import Field

from kernels.changed_mean import changed_mean
from merge_core.methods.contract import Chunk, Method, Rows, Space, State, Weights, refuse_weights


class Ram(Method):
    """W₀ + λ · mean of the τ_t with |τ_t| > ε, element by element; 0 where there is none.

    A change that a single model made is thus kept whole. Ingredients have no weights. mergekit, "Reinforced Agent
    Merging", computes it in the models' dtype. Yuan et al. 2026, https://arxiv.org/abs/2601.13572.
    """

    name: Literal["ram"] = "ram"
    epsilon: float = Field(default=1e-5, ge=0.0)
    space: ClassVar[Space] = "delta"
    formula: ClassVar[str] = "W₀ + λ · mean of the τ_t with |τ_t| > ε"
    source: ClassVar[str] = "Reinforced Agent Merging, 2026, https://arxiv.org/abs/2601.13572"

    def check(self, weights: list[float], tensor: str) -> None:
        refuse_weights(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        return changed_mean(chunk.source, self.epsilon)
