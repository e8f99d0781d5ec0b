"""DARE before TIES: random entries dropped instead of small ones, then signs are elected."""

from typing import ClassVar, Literal

from pydantic import Field

from kernels.random_drop import rescaled
from kernels.trim_elect import Elect, How
from merge_core.methods.contract import Chunk, Method, Rows, State, Weights
from merge_core.methods.dare_linear import merged
from merge_core.methods.sparse_rows import ZERO_VOTE_SIGN, Aggregate
from merge_core.methods.ties import Votes


class DareTies(Method):
    """W₀ + λ mean of w_t τ̃_t over those with the sign of Σ w_t τ̃_t, τ̃_t being τ_t thinned out as by dare_linear.

    `aggregate` mean is Σ w_t τ̃_t / Σ |w_t| over the agreeing entries, sum leaves the division out, max takes the
    largest; an entry whose votes cancel stays as in the base. `votes` frequency elects sign(Σ sign(τ̃_t)) instead.
    Convention `peft` votes without weights, lets + win a cancelled vote, and divides by the number that agree;
    `mergekit` lets + win a cancelled vote. mergekit sums unless told to normalize, draws from global state, and
    rescales so that the sum of magnitudes stays as it was.
    Yu et al., "Language models are super Mario", 2023, https://arxiv.org/abs/2311.03099, section 3.
    """

    name: Literal["dare_ties"] = "dare_ties"
    density: float = Field(default=1.0, ge=0.0, le=1.0)
    rescale: bool = True
    aggregate: Aggregate = "mean"
    convention: Literal["stockpot", "peft", "mergekit"] = "stockpot"
    votes: Votes = "total"
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    formula: ClassVar[str] = (
        "W₀ + λ mean of w_t τ̃_t over those with sign(Σ w_t τ̃_t), τ̃_t = τ_t / density with probability density, else 0"
    )
    source: ClassVar[str] = "Yu et al. 2023, Language models are super Mario, https://arxiv.org/abs/2311.03099"

    def merge(self, chunk: Chunk, weights: Weights, state: State) -> Rows:
        # Votes are taken before the division, which changes no sign: so those that cancel do so exactly.
        found = merged(chunk, weights, self.density, False, *self._choices())
        return rescaled(found, self.density) if self.rescale else found

    def _choices(self) -> tuple[How, Elect, int]:
        """How what agrees is merged, who elects, and the sign where the votes cancel."""
        if self.convention != "peft":
            votes: Elect = "frequency" if self.votes == "frequency" else "weighted"
            return self.aggregate, votes, ZERO_VOTE_SIGN[self.convention]
        how: How = "count" if self.aggregate == "mean" else self.aggregate
        return how, "frequency" if self.votes == "frequency" else "unweighted", 1
