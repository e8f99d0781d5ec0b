"""A weight scaled along one of its dimensions: IA³."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np

from kernels.storage import widen
from merge_core.deltas.contract import Rows, unbounded
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """W = base, each index of `axis` times its factor. Liu et al., 2022, https://arxiv.org/abs/2205.05638.

    A convolution in groups has fewer inputs in its shape than factors: each group of rows has its own run of them.
    """

    factors: StoredTensor
    axis: int
    shape: tuple[int, ...]
    kind = "scale"

    @property
    def nbytes(self) -> int:
        return self.factors.spec.nbytes

    @property
    def open_bytes(self) -> int:
        return 4 * self.factors.spec.size

    def fit(self, shape: tuple[int, ...]) -> "Scale | None":
        if len(shape) <= self.axis or 0 in shape:
            return None
        groups, rest = divmod(self.factors.spec.size, shape[self.axis])
        is_grouped = self.axis == 1 and len(shape) > 2 and groups > 0 and shape[0] % groups == 0
        return replace(self, shape=shape) if rest == 0 and (groups == 1 or is_grouped) else None

    def open(self) -> "ScaleLoader":
        factors = widen(self.factors.storage(), self.factors.spec.dtype.label)
        group = prod(self.shape) // max(factors.size // self.shape[self.axis], 1)
        return ScaleLoader(factors, prod(self.shape[self.axis + 1 :]), self.shape[self.axis], group)


@dataclass(frozen=True, slots=True, eq=False)
class ScaleLoader:
    """Finds each element's factor from its flat index; `group` is the elements of one group."""

    factors: Rows
    inner: int
    length: int
    group: int

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a scale without a base"
        element = np.arange(start, start + out.size, dtype=np.int64)
        place = element // self.inner % self.length
        if self.factors.size > self.length:
            place += element // self.group * self.length
        with unbounded():
            np.multiply(base, self.factors[place], out=out)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a scale without a base"
        self.load_weight(out, start, base)
        with unbounded():
            out -= base
