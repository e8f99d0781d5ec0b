"""The elementwise product of two low-rank matrices: LoHa."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from kernels.low_rank_add import low_rank_add
from merge_core.deltas.contract import Rows, unbounded
from merge_core.deltas.product import Product


@dataclass(frozen=True, slots=True, eq=False)
class Hadamard:
    """W = base + scale · (first ∘ second). Hyeon-Woo et al., "FedPara", 2022, https://arxiv.org/abs/2108.06098."""

    first: Product
    second: Product
    scale: float
    shape: tuple[int, ...]
    kind = "hadamard"

    @property
    def nbytes(self) -> int:
        return self.first.nbytes + self.second.nbytes

    @property
    def open_bytes(self) -> int:
        return self.first.open_bytes + self.second.open_bytes

    def fit(self, shape: tuple[int, ...]) -> "Hadamard | None":
        """The same for a convolution's weight, whose kernel is flattened where the factors have two dimensions."""
        return replace(self, shape=shape) if flattens(self.shape, shape) else None

    def open(self) -> "HadamardLoader":
        return HadamardLoader(self.first.matrices(), self.second.matrices(), self.scale)


@dataclass(frozen=True, slots=True, eq=False)
class HadamardLoader:
    """Multiplies the rows of a chunk in both, and the two elementwise."""

    first: tuple[Rows, Rows]
    second: tuple[Rows, Rows]
    scale: float

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a delta without a base"
        self.load_delta(out, start, base)
        out += base

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        out[:] = 0.0
        other = np.zeros_like(out)
        for into, (up, down) in ((out, self.first), (other, self.second)):
            low_rank_add(into, down.shape[1], start, up, down, 1.0)
        with unbounded():
            out *= other
            out *= np.float32(self.scale)


def flattens(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes are of the same rows, and differ in how the rest is divided at most."""
    return len(one) > 1 and len(other) > 1 and one[0] == other[0] and prod(one) == prod(other)
