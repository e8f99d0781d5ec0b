"""MagPrune: small entries of each row are dropped more often than large ones."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from kernels.rank_drop import rank_merge
from kernels.trim_elect.choices import Merge
from merge_core.methods.contract import Chunk, Method, Rows, Weights
from merge_core.methods.finite import refused_rows
from merge_core.tensors import row_size

USUAL_EPSILON = 0.15


class MagPrune(Method):
    """What both forms of DELLA have in common: how task vectors are thinned out.

    An entry is kept with a probability that rises in even steps from density − epsilon / 2 at the smallest
    magnitude of its row to density + epsilon / 2 at the largest, and is then divided by that probability unless
    `rescale` is false. Equal magnitudes rank in element order. A row is what feeds one output; a vector is one
    row, and a row of one entry is kept with probability density. `epsilon` is 0.15 where nothing is said, or less
    where the density lies nearer to 0 or 1: density 1 keeps everything and 0 nothing, whatever epsilon says.
    Whether an entry stays depends on the recipe's seed, the tensor's name, the ingredient's position and the
    element's index.
    """

    density: float = Field(default=1.0, ge=0.0, le=1.0)
    epsilon: float | None = Field(default=None, ge=0.0, le=1.0)
    rescale: bool = True
    space: ClassVar[Literal["weight", "delta"]] = "delta"
    reads: ClassVar[Literal["element", "row", "matrix"]] = "row"
    source: ClassVar[str] = "Deep et al. 2024, DELLA-Merging, https://arxiv.org/abs/2406.11617"

    @model_validator(mode="after")
    def _probabilities_are_shares(self) -> "MagPrune":
        most = self.widest()
        if self.epsilon is not None and self.epsilon > most > 0:
            expected = f"at most {most:g}, so that density ± epsilon / 2 stays in [0, 1]"
            context = {"where": "epsilon", "found": self.epsilon, "expected": expected}
            raise PydanticCustomError("misfit", "epsilon is too wide for the density", context)
        return self

    def widest(self) -> float:
        """The largest epsilon with which every keep probability lies in [0, 1]."""
        return round(2 * min(self.density, 1.0 - self.density), 12)

    def shares(self) -> tuple[float, float]:
        """The keep probability of a row's smallest and of its largest entry."""
        epsilon = min(USUAL_EPSILON if self.epsilon is None else self.epsilon, self.widest())
        return max(self.density - epsilon / 2, 0.0), min(self.density + epsilon / 2, 1.0)

    def merged(self, chunk: Chunk, weights: Weights, how: Merge, zero_vote_sign: int = 0) -> Rows:
        """The chunk's rows once MagPrune has dropped entries from them, merged as `how` says."""
        width, place = row_size(chunk.shape), (chunk.seed, chunk.tensor, chunk.start)
        shares = self.shares()
        found = rank_merge(chunk.source, weights, width, *place, shares, self.rescale, how, "weighted", zero_vote_sign)
        return refused_rows(chunk.rows, chunk.tensor) if found is None else found
