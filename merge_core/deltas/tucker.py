"""A low-rank product with a core between its factors: what a LoCon says of a convolution."""

from dataclasses import dataclass

from merge_core.deltas.low_rank import LowRankLoader
from merge_core.deltas.product import Product


@dataclass(frozen=True, slots=True, eq=False)
class Tucker:
    """W = base + scale · Σ_ij up[p, i] core[i, j, …] down[j, q]."""

    product: Product
    scale: float
    kind = "low_rank"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.product.shape

    @property
    def rank(self) -> int:
        return self.product.rank

    @property
    def nbytes(self) -> int:
        return self.product.nbytes

    @property
    def open_bytes(self) -> int:
        return self.product.open_bytes

    def open(self) -> LowRankLoader:
        return LowRankLoader(*self.product.matrices(), self.scale)
