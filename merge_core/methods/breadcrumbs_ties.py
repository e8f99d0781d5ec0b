"""Model Breadcrumbs before TIES: the band of magnitudes between two thresholds, then signs are elected."""

from typing import ClassVar, Literal

from merge_core.methods.breadcrumbs import Band
from merge_core.methods.contract import Chunk, Rows, State, Weights
from merge_core.methods.sparse_rows import ZERO_VOTE_SIGN, Aggregate, elect


class BreadcrumbsTies(Band):
    """W₀ + λ mean of w_t τ̂_t over those with the sign of Σ w_t τ̂_t, τ̂_t being τ_t in breadcrumbs' band.

    Of n entries the ⌊gamma·n⌋ largest are zeroed and the next ⌈density·n⌉ kept. `aggregate` mean is Σ w_t τ̂_t /
    Σ |w_t| over the agreeing entries, sum leaves the division out, max takes the largest; an entry whose votes
    cancel stays as in the base. Convention `mergekit` has the band of breadcrumbs' and lets + win a cancelled vote;
    mergekit sums unless told to normalize, and lets small tensors vanish. Davari and Belilovsky, "Model
    Breadcrumbs", 2023, https://arxiv.org/abs/2312.06795.
    """

    name: Literal["breadcrumbs_ties"] = "breadcrumbs_ties"
    aggregate: Aggregate = "mean"
    formula: ClassVar[str] = (
        "W₀ + λ mean of w_t τ̂_t over those with sign(Σ w_t τ̂_t), τ̂_t = the density share of τ_t below its "
        "gamma share of largest |τ_t|"
    )

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        rows = self.thinned(chunk, state)
        return elect(rows, weights, self.aggregate, zero_vote_sign=ZERO_VOTE_SIGN[self.convention])
