"""The Kronecker product of a small matrix and a larger one: LoKr."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from merge_core.deltas.contract import Rows, unbounded
from merge_core.deltas.hadamard import flattens
from merge_core.deltas.low_rank import widened
from merge_core.deltas.product import Product
from merge_core.stored import StoredTensor

Factor = StoredTensor | Product
"""A matrix as it is stored: whole, or as a product."""


@dataclass(frozen=True, slots=True, eq=False)
class Kronecker:
    """W = base + scale · (first ⊗ second); `second` may have kernel dimensions, flattened here.

    Yeh et al., "Navigating Text-To-Image Customization", 2024, https://arxiv.org/abs/2309.14859, section 3.2.
    """

    first: Factor
    second: Factor
    scale: float
    shape: tuple[int, ...]
    kind = "kronecker"

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes if isinstance(one, Product) else one.spec.nbytes for one in (self.first, self.second))

    @property
    def open_bytes(self) -> int:
        """Both matrices in float32, and the product that makes one."""
        own = sum(one.open_bytes for one in (self.first, self.second) if isinstance(one, Product))
        return own + 4 * (prod(shape_of(self.first)) + prod(shape_of(self.second)))

    def fit(self, shape: tuple[int, ...]) -> "Kronecker | None":
        return replace(self, shape=shape) if flattens(self.shape, shape) else None

    def open(self) -> "KroneckerLoader":
        with unbounded():
            first = _matrix(self.first) * np.float32(self.scale)
        return KroneckerLoader(first, _matrix(self.second))


@dataclass(frozen=True, slots=True, eq=False)
class KroneckerLoader:
    """`first` is float32 [a, c], scaled, `second` float32 [b, d]: row i of the delta is first[i // b]⊗second[i % b].

    A product is made for whole rows, and cut where a chunk begins or ends within one.
    """

    first: Rows
    second: Rows

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a delta without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        if out.size == 0:
            return
        columns = self.first.shape[1] * self.second.shape[1]
        rows = np.arange(start // columns, (start + out.size - 1) // columns + 1)
        outer, inner = np.divmod(rows, len(self.second))
        with unbounded():
            product = self.first[outer][:, :, None] * self.second[inner][:, None, :]
        offset = start - int(rows[0]) * columns
        out[:] = product.reshape(-1)[offset : offset + out.size]


def shape_of(factor: Factor) -> tuple[int, ...]:
    return factor.shape if isinstance(factor, Product) else factor.spec.shape


def _matrix(factor: Factor) -> Rows:
    return factor.matrix() if isinstance(factor, Product) else widened(factor)
