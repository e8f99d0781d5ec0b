"""Rows as kernels take them: float32 in memory, or elements as they are stored, widened a stretch at a time.

A kernel that works through its rows in stretches reads them through a table of addresses, and float32 rows of
whole checkpoints never leave the L1 cache. numba's disk cache watches a kernel's own file only: after a change
here, remove `kernels/**/__pycache__`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.addresses import halves, singles
from kernels.checks import FLOAT32, Floats, Integers, check_array, output
from kernels.compiled import compiled, pasted, uncounted
from kernels.joint_loads import load_bfloat16
from kernels.lanes import AHEAD
from kernels.storage import storage_dtype
from kernels.storage.cpu import from_bfloat16
from kernels.stored_elements import BFLOAT16, Stored, load, place_of
from kernels.stored_elements import FLOAT32 as FLOAT32_KIND

STRETCH = 2048
"""Elements that a kernel asks for at once: those of a few models fit into the L1 cache."""

STEP = AHEAD // 2
"""Elements that a kernel loads at once where all of a row go by: of bfloat16, what the load before has asked for."""

NO_BASE = 0
WIDTHS = np.array([0, 2, 2, 4, 8])
"""Bytes of an element, by kind."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredRows:
    """float32 [models, elements] yet to be computed: stored elements, less those of a base where there is one.

    At least one model, all of one length and each in the storage type of its label. `table` is int64 [1 + models, 2]:
    address and kind of the base (kind NO_BASE without one), then of each model.
    """

    table: Integers
    size: int
    arrays: tuple[NDArray[Any], ...]
    """What the addresses point into, kept alive."""
    room: Floats | None = None
    """Where `load` puts the rows; memory of its own where there is none."""

    @classmethod
    def of(cls, models: Sequence[Stored], base: Stored | None = None, room: Floats | None = None) -> "StoredRows":
        _check(models, base)
        stored = [*models] if base is None else [base, *models]
        places = [place_of(raw, label) for raw, label in stored]
        table = np.array(places if base is not None else [(0, NO_BASE), *places], np.int64)
        return cls(table, models[0][0].size, tuple(raw for raw, _ in stored), room)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.table) - 1, self.size

    def run(self, start: int, size: int, room: Floats | None = None) -> "StoredRows":
        """Elements [start, start + size) of all models."""
        table = self.table.copy()
        table[:, 0] += start * WIDTHS[table[:, 1]]
        return StoredRows(table, size, self.arrays, room)

    def only(self, model: int) -> "StoredRows":
        """The elements of one model alone."""
        return StoredRows(self.table[[0, model + 1]], self.size, self.arrays)

    def load(self) -> Floats:
        """The rows in memory."""
        out = output("room", self.room, FLOAT32, self.shape)
        _load(self.table, out)
        return out


Rows = Floats | StoredRows


def _check(models: Sequence[Stored], base: Stored | None) -> None:
    if len(models) == 0:
        raise ValueError("models: found 0 models, expected at least 1")
    size = models[0][0].size
    for position, (raw, label) in enumerate(models):
        check_array(f"models[{position}]", raw, storage_dtype(label), (size,))
    if base is not None:
        check_array("base", base[0], storage_dtype(base[1]), (size,))


def table_of(name: str, rows: Rows) -> tuple[Integers, int, int]:
    """The table of rows [models, elements] with both lengths, once checked."""
    if isinstance(rows, StoredRows):
        return rows.table, *rows.shape
    check_array(name, rows, FLOAT32, (None, None))
    models, size = rows.shape
    table = np.full((models + 1, 2), FLOAT32_KIND, np.int64)
    table[:, 0] = np.arange(-1, models) * (4 * size) + rows.ctypes.data
    table[0, 1] = NO_BASE
    return table, models, size


@uncounted
def _widen(address: Any, kind: Any, lo: Any, out: Floats) -> None:
    load(address, kind, lo, out)


@uncounted
def base_stretch(table: Integers, lo: int, room: Floats) -> None:
    """Fill `room` with the base's elements from `lo` on; leave it alone where there is no base."""
    if table[0, 1] != NO_BASE:
        _widen(table[0, 0], table[0, 1], lo, room)


@uncounted
def _difference(address: Any, lo: Any, base: Floats, out: Floats) -> None:
    raw = halves(address, lo, out.size)
    for i in range(out.size):
        out[i] = from_bfloat16(raw[i]) - base[i]


@uncounted
def _subtract(base: Floats, out: Floats) -> None:
    for i in range(out.size):
        out[i] = out[i] - base[i]


@uncounted
def fill(table: Integers, model: int, lo: int, base: Floats, room: Floats) -> None:
    """A model's elements from `lo` on, as many as `room` has; `base` is what `base_stretch` has filled."""
    address, kind, has_base = table[model + 1, 0], table[model + 1, 1], table[0, 1] != NO_BASE
    if kind == BFLOAT16 and has_base:
        _difference(address, lo, base, room)
    else:
        _widen(address, kind, lo, room)
        if has_base:
            _subtract(base, room)


@pasted
def stretch(table: Integers, model: int, lo: int, base: Floats, room: Floats) -> Any:
    """The same in `room`, or where they lie if that is float32: not to be written to."""
    if table[model + 1, 1] == FLOAT32_KIND and table[0, 1] == NO_BASE:
        return singles(table[model + 1, 0], lo, room.size)
    fill(table, model, lo, base, room)
    return room


@uncounted
def is_bfloat16(table: Integers) -> bool:
    """Whether all models are, and the base if there is one.

    Asked of each: a kernel with an array's `all` would load scipy when it is loaded.
    """
    others = int(table[0, 1] != BFLOAT16 and table[0, 1] != NO_BASE)
    for model in range(1, table.shape[0]):
        others += int(table[model, 1] != BFLOAT16)
    return others == 0


@uncounted
def load_stretches(table: Integers, lo: int, width: int, rows: Floats) -> None:
    """`width` elements of each model from `lo` on, to be written to at will, and after them the base's."""
    if is_bfloat16(table):
        load_bfloat16(table, lo, width, rows)
        return
    base = rows[rows.shape[0] - 1, :width]
    base_stretch(table, lo, base)
    for model in range(rows.shape[0] - 1):
        fill(table, model, lo, base, rows[model, :width])


@uncounted
def _fill_all(table: Integers, base: Floats, out: Floats) -> None:
    for lo in range(0, out.shape[1], STRETCH):
        own_base = base[: min(STRETCH, out.shape[1] - lo)]
        base_stretch(table, lo, own_base)
        for model in range(out.shape[0]):
            fill(table, model, lo, own_base, out[model, lo : lo + own_base.size])


@compiled
def _load(table: Integers, out: Floats) -> None:
    _fill_all(table, np.empty(STRETCH, np.float32), out)
