"""DELLA: small entries of each row dropped more often than large ones, then signs are elected as in TIES."""

from typing import ClassVar, Literal

from merge_core.methods.contract import Chunk, Rows, State, Weights
from merge_core.methods.magprune import MagPrune
from merge_core.methods.sparse_rows import ZERO_VOTE_SIGN, Aggregate, Convention


class Della(MagPrune):
    """W₀ + λ mean of w_t τ̃_t over those with the sign of Σ w_t τ̃_t, τ̃_t being τ_t thinned out by magnitude.

    A row's entry of rank r among n, by magnitude, stays with probability p = density − epsilon / 2 +
    epsilon · r / (n − 1) and is divided by p, unless `rescale` is false. epsilon is 0.15 unless said otherwise, or
    less where p would leave [0, 1]: density 1 keeps everything, 0 gives the base. A vector is one row, and a row of
    one entry has p = density. `aggregate` mean is Σ w_t τ̃_t / Σ |w_t| over the agreeing entries, sum leaves the
    division out, max takes the largest; an entry whose votes cancel stays as in the base, or takes + by convention
    `mergekit`. mergekit's epsilon is half of ours, its draws come from global state, and it rescales a whole tensor
    so that the sum of magnitudes stays as it was. Deep et al., "DELLA-Merging", 2024,
    https://arxiv.org/abs/2406.11617, section 3.
    """

    name: Literal["della"] = "della"
    aggregate: Aggregate = "mean"
    convention: Convention = "stockpot"
    formula: ClassVar[str] = (
        "W₀ + λ mean of w_t τ̃_t over those with sign(Σ w_t τ̃_t), τ̃_t = τ_t / p with p rising by rank "
        "from density − ε/2 to density + ε/2"
    )

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        return self.merged(chunk, weights, self.aggregate, ZERO_VOTE_SIGN[self.convention])
