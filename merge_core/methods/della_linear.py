"""DELLA before task arithmetic: small entries dropped more often than large ones, the rest rescaled and added up."""

from typing import ClassVar, Literal

from merge_core.methods.contract import Chunk, Rows, State, Weights, normalized, refuse_zero_sum
from merge_core.methods.magprune import MagPrune


class DellaLinear(MagPrune):
    """W₀ + λ Σ w_t τ̃_t, τ̃_t being τ_t thinned out by magnitude: MagPrune.

    A row's entry of rank r among n, by magnitude, stays with probability p = density − epsilon / 2 +
    epsilon · r / (n − 1) and is divided by p; `rescale` false leaves the division out, `normalize` divides by
    Σ w_t. epsilon is 0.15 unless said otherwise, or less where p would leave [0, 1]: density 1 keeps everything, 0
    gives the base. A vector is one row, and a row of one entry has p = density. mergekit's epsilon is half of
    ours, its draws come from global state, and it rescales a whole tensor so that the sum of magnitudes stays as
    it was. Deep et al., "DELLA-Merging", 2024, https://arxiv.org/abs/2406.11617, section 3.1.
    """

    name: Literal["della_linear"] = "della_linear"
    normalize: bool = False
    formula: ClassVar[str] = "W₀ + λ Σ w_t τ̃_t, τ̃_t = τ_t / p with p rising by rank from density − ε/2 to density + ε/2"

    def check(self, weights: list[float], tensor: str) -> None:
        if self.normalize:
            refuse_zero_sum(weights, tensor)

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        return self.merged(chunk, normalized(weights) if self.normalize else weights, "all")
