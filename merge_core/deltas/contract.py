"""What one ingredient says of one tensor, in whatever form it was published.

A kind of delta is one file in this folder. A delta fills float32 chunks on request and never builds the
dense tensor: a low-rank delta multiplies only the rows asked for.
"""

from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Reads = Literal["element", "row", "matrix"]


def unbounded() -> np.errstate:
    """Arithmetic that may overflow without a word: the engine refuses what is not finite, and names the tensor."""
    return np.errstate(over="ignore", invalid="ignore", divide="ignore")


class Loader(Protocol):
    """A delta opened for reading; cheap to make, used by one thread, dropped after a run of chunks."""

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        """Fill `out`, float32 [elements], with the weights W of flat elements [start, start + len(out))."""

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        """Fill `out` with W − base over the same elements."""


class Delta(Protocol):
    """One ingredient's say on one tensor; `shape` is the base tensor's shape."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def kind(self) -> str:
        """The word for this form, such as replacement, low_rank, sparse or scale."""

    @property
    def nbytes(self) -> int:
        """Bytes this delta occupies where it is stored."""

    @property
    def open_bytes(self) -> int:
        """Memory that `open` takes beyond the chunks it fills."""

    def open(self) -> Loader: ...


def reads_of(delta: Delta) -> Reads:
    """What a chunk of this delta holds whole, by its property `reads`; an element alone where it has none.

    Rows are whole as `merge_core.tensors.row_size` counts.
    """
    reads: Reads = getattr(delta, "reads", "element")  # asked for each chunk, and isinstance of a protocol is slow
    return reads


@runtime_checkable
class Fitting(Protocol):
    """A delta that speaks of weights of several shapes: an artefact need not tell the shape of its base."""

    def fit(self, shape: tuple[int, ...]) -> Delta | None:
        """The same for a weight of this shape; None where it says nothing of such a weight."""


def fitted(delta: Delta, shape: tuple[int, ...]) -> Delta | None:
    """The delta for a weight of this shape; None where it is of another one."""
    if delta.shape == shape:
        return delta
    return delta.fit(shape) if isinstance(delta, Fitting) else None
