"""A weight as a magnitude times a direction, of which the direction is adapted: DoRA."""

from dataclasses import dataclass, replace
from math import prod

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.deltas.contract import Delta, Loader, Reads, Rows, fitted, unbounded
from merge_core.stored import StoredTensor

BLOCK = 1 << 18
"""Elements whose squares are summed at a time, so that they take little memory in float64."""


@dataclass(frozen=True, slots=True, eq=False)
class Decomposed:
    """W = magnitude · (base + added) / (‖base + added‖ + epsilon), a magnitude for each index of `axis`.

    The norm is over all other axes. Liu et al., "DoRA", 2024, https://arxiv.org/abs/2402.09353, equation 5.
    """

    added: Delta
    magnitude: StoredTensor
    axis: int
    epsilon: float = 0.0
    kind = "decomposed"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.added.shape

    @property
    def nbytes(self) -> int:
        return self.added.nbytes + self.magnitude.spec.nbytes

    @property
    def open_bytes(self) -> int:
        return self.added.open_bytes + 4 * self.magnitude.spec.size + 16 * BLOCK

    @property
    def reads(self) -> Reads:
        return "row" if self.axis == 0 else "matrix"

    def fit(self, shape: tuple[int, ...]) -> "Decomposed | None":
        added = fitted(self.added, shape)
        is_counted = len(shape) > self.axis and shape[self.axis] == self.magnitude.spec.size
        return replace(self, added=added) if added is not None and is_counted else None

    def open(self) -> "DecomposedLoader":
        magnitude = widen(self.magnitude.storage(), self.magnitude.spec.dtype.label)
        return DecomposedLoader(self.added.open(), magnitude, self.shape, self.axis, self.epsilon)


@dataclass(frozen=True, slots=True, eq=False)
class DecomposedLoader:
    """Gets whole rows, or the whole weight when the norms are over rows."""

    added: Loader
    magnitude: Rows
    shape: tuple[int, ...]
    axis: int
    epsilon: float

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a decomposed delta without a base"
        self.added.load_delta(out, start, base)
        with unbounded():
            out += base
            self._put_magnitudes(out, start)

    def _put_magnitudes(self, out: Rows, start: int) -> None:
        """Divide by the norms; a row of zeros has no direction, and the result is not finite."""
        row = prod(self.shape[1:])
        if self.axis == 0:
            direction = out.reshape(1, -1, row)
            magnitude = self.magnitude[start // row : (start + out.size) // row]
        else:
            direction = out.reshape(-1, self.shape[1], prod(self.shape[2:]))
            magnitude = self.magnitude
        factor = magnitude / (np.sqrt(_squares(direction)) + self.epsilon)
        direction *= factor.astype(np.float32)[None, :, None]

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses it without a base"
        self.load_weight(out, start, base)
        with unbounded():
            out -= base


def _squares(values: Rows) -> NDArray[np.float64]:
    """The sum of squares for each index of the middle axis, in float64."""
    total = np.zeros(values.shape[1])
    if values.shape[0] == 1:
        step = max(BLOCK // max(values.shape[2], 1), 1)
        for first in range(0, values.shape[1], step):
            part = np.square(values[0, first : first + step], dtype=np.float64)
            total[first : first + step] = part.sum(axis=1)
        return total
    step = max(BLOCK // max(values.shape[1] * values.shape[2], 1), 1)
    for first in range(0, values.shape[0], step):
        total += np.square(values[first : first + step], dtype=np.float64).sum(axis=(0, 2))
    return total
