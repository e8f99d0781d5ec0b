"""Rows of stored tensors in another order: an embedding whose tokens are numbered anew, never held whole.

For each row of the result a `RowTable` names the row of the model's own tensor, or the rows of any models
whose mean it is; rows behind all tokens are the mean of the rows before them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from kernels.storage import widen
from merge_core.deltas.contract import Rows
from merge_core.stored import StoredTensor
from merge_core.tensors import TensorSpec

FILLED, PADDING = -1, -2

BLOCK = 1 << 16
"""Elements gathered at a time."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Fills:
    """Row r is the mean of rows `rows[k]` of donors `donors[k]`, k from `starts[r]` to below `starts[r + 1]`, or 0."""

    starts: Numbers
    donors: Numbers
    rows: Numbers


@dataclass(frozen=True, slots=True, eq=False)
class RowTable:
    """For each row of the result the model's own row, or FILLED (see `fills`), or PADDING."""

    own: Numbers
    fills: Fills


class _Once:
    """The mean row, once it has been asked for."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.row: Rows | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Weights put together row by row from a stored tensor and from those of other models.

    `donors` are in the order that the table numbers them; all have rows of one size.
    """

    spec: TensorSpec
    own: StoredTensor
    donors: tuple[StoredTensor, ...]
    table: RowTable
    mean: _Once = field(default_factory=_Once)
    kind = "gathered"

    @property
    def shape(self) -> tuple[int, ...]:
        return self.spec.shape

    @property
    def nbytes(self) -> int:
        return self.own.spec.nbytes

    @property
    def open_bytes(self) -> int:
        """Some blocks of rows: as stored, widened, summed up in float64, and the mean row."""
        return 24 * max(BLOCK, self.width) + 4 * self.width

    @property
    def width(self) -> int:
        """Elements of one token: 1 for a bias."""
        return prod(self.shape[1:])

    def open(self) -> "GatheredLoader":
        return GatheredLoader(self)


class GatheredLoader:
    """Gathers whole rows in blocks, and hands out the elements that are asked for."""

    def __init__(self, gathered: Gathered) -> None:
        self._gathered = gathered
        self._width = gathered.width
        self._sources = [_Matrix(stored, self._width) for stored in gathered.donors]
        self._own = _Matrix(gathered.own, self._width)

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        stop = start + out.size
        for first, last in self._blocks(start // self._width, -(-stop // self._width)):
            offset = first * self._width
            begin, end = max(start, offset), min(stop, last * self._width)
            out[begin - start : end - start] = self._rows(first, last).reshape(-1)[begin - offset : end - offset]

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a delta method without a base"
        self.load_weight(out, start, base)
        out -= base

    def _blocks(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        step = max(BLOCK // self._width, 1)
        return ((row, min(row + step, last)) for row in range(first, last, step))

    def _rows(self, first: int, last: int) -> Rows:
        """Rows [first, last) in float32, [rows, width]."""
        block = self._token_rows(first, last)
        padding = self._gathered.table.own[first:last] == PADDING
        if padding.any():
            block[padding] = self._mean()
        return block

    def _token_rows(self, first: int, last: int) -> Rows:
        """The same, with anything in rows of no token."""
        own = self._gathered.table.own[first:last]
        block = self._own.rows(np.maximum(own, 0))
        filled = np.flatnonzero(own == FILLED)
        if filled.size:
            block[filled] = self._filled(filled + first)
        return block

    def _filled(self, rows: Numbers) -> Rows:
        """The rows that are means of other models' rows, summed up in order of the models."""
        fills = self._gathered.table.fills
        counts = fills.starts[rows + 1] - fills.starts[rows]
        targets = np.repeat(np.arange(rows.size), counts)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        entries = np.repeat(fills.starts[rows], counts) + np.arange(targets.size) - before
        total = np.zeros((rows.size, self._width), dtype=np.float32)
        for donor, matrix in enumerate(self._sources):
            chosen = fills.donors[entries] == donor
            if chosen.any():
                _add_rows(total, targets[chosen], matrix.rows(fills.rows[entries[chosen]]))
        total /= np.maximum(counts, 1)[:, None].astype(np.float32)
        return total

    def _mean(self) -> Rows:
        """The mean of all rows before the padding, added up in float64 row by row: the same on any thread."""
        once = self._gathered.mean
        with once.lock:
            if once.row is None:
                once.row = self._mean_of(np.flatnonzero(self._gathered.table.own != PADDING))
            return once.row

    def _mean_of(self, rows: Numbers) -> Rows:
        total = np.zeros(self._width)
        for first, last in self._blocks(0, self._gathered.shape[0]):
            inside = rows[np.searchsorted(rows, first) : np.searchsorted(rows, last)]
            if inside.size:
                total += self._token_rows(first, last)[inside - first].sum(axis=0, dtype=np.float64)
        return (total / max(rows.size, 1)).astype(np.float32)


def _add_rows(total: Rows, targets: Numbers, rows: Rows) -> None:
    """Add each row to its target; `targets` ascend, and one that is there twice gets both."""
    if (targets[1:] != targets[:-1]).all():
        total[targets] += rows
    else:
        np.add.at(total, targets, rows)


class _Matrix:
    """A stored tensor whose rows are widened by number."""

    def __init__(self, stored: StoredTensor, width: int) -> None:
        self._raw = stored.storage().reshape(-1, width)
        self._label = stored.spec.dtype.label

    def rows(self, numbers: Numbers) -> Rows:
        raw = np.ascontiguousarray(self._raw[numbers]).reshape(-1)
        return widen(raw, self._label).reshape(len(numbers), -1)
