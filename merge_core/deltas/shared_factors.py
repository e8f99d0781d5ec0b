"""Factors shared by all modules, with a vector on either side of its own: VeRA."""

from dataclasses import dataclass, replace

import numpy as np

from kernels.storage import widen
from merge_core.deltas.contract import unbounded
from merge_core.deltas.low_rank import LowRankLoader, widened
from merge_core.stored import StoredTensor


@dataclass(frozen=True, slots=True, eq=False)
class SharedFactors:
    """W = base + diag(b) B[:outputs] diag(d) A[:, :inputs], transposed for weights stored [in, out].

    Kopiczko et al., "VeRA", 2024, https://arxiv.org/abs/2310.11454, equation 2.
    """

    shared_a: StoredTensor
    shared_b: StoredTensor
    inner: StoredTensor
    outer: StoredTensor
    shape: tuple[int, ...]
    transposed: bool
    kind = "shared_factors"

    @property
    def nbytes(self) -> int:
        """The shared factors are counted with none of the modules."""
        return self.inner.spec.nbytes + self.outer.spec.nbytes

    @property
    def open_bytes(self) -> int:
        return 8 * (self.shared_a.spec.size + self.shared_b.spec.size)

    def fit(self, shape: tuple[int, ...]) -> "SharedFactors | None":
        """The same for a weight with fewer inputs than the shared factor has columns."""
        outputs, inputs = shape[::-1] if self.transposed and len(shape) == 2 else (*shape, 0, 0)[:2]
        fits = len(shape) == 2 and outputs == self.outer.spec.size and inputs <= self.shared_a.spec.shape[1]
        return replace(self, shape=shape) if fits else None

    def open(self) -> LowRankLoader:
        inner, outer = (widen(one.storage(), one.spec.dtype.label) for one in (self.inner, self.outer))
        inputs = self.shape[0 if self.transposed else 1]
        with unbounded():
            up = widened(self.shared_b)[: outer.size] * outer[:, None]
            down = widened(self.shared_a)[:, :inputs] * inner[:, None]
        left, right = (down.T, up.T) if self.transposed else (up, down)
        return LowRankLoader(np.ascontiguousarray(left), np.ascontiguousarray(right), 1.0)
