"""One tensor's merge being carried out: what its surveys have found so far, and how its chunks are computed."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.storage import add_scaled_narrow, narrow, widen_difference
from kernels.stored_rows import StoredRows
from merge_core.deltas import Absent, Loader, Replacement, Rows, Ternary
from merge_core.methods import Chunk, Counts, Partial, State
from merge_core.plan import chunk_elements
from merge_core.planning.tensors import AnyBase, Merge
from merge_core.results import Ready, Result, shortcut
from merge_core.stored import StoredTensor

UNKNOWN = object()
"""The state of a run that nobody has asked for."""


class Run:
    """The progress of one `Merge`; its nested merges have runs of their own."""

    def __init__(self, merge: Merge, around: AnyBase | None = None) -> None:
        self.merge = merge
        self.is_delta_of_outer_base = merge.space == "delta" and merge.base is not None and merge.base is around
        self.weights = np.array(merge.weights, dtype=np.float32)
        self._state: State = UNKNOWN
        own = merge.base if merge.method.bare else None
        self.inputs = [Run(entry, own) if isinstance(entry, Merge) else entry for entry in merge.inputs]
        self.base = Run(merge.base) if isinstance(merge.base, Merge) else merge.base

    @property
    def state(self) -> State:
        """What the method knows so far: at first what it needs no survey for."""
        if self._state is UNKNOWN:
            self._state = _settled(self.merge)
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    def nested(self) -> Iterator["Run"]:
        """This run and those inside it, the inner ones first: the order in which their surveys happen."""
        for entry in (*self.inputs, self.base):
            if isinstance(entry, Run):
                yield from entry.nested()
        yield self

    @property
    def height(self) -> int:
        """How many levels of runs lie inside this one."""
        return max((1 + entry.height for entry in (*self.inputs, self.base) if isinstance(entry, Run)), default=0)

    def stored(self) -> Iterator[StoredTensor]:
        """Whatever is taken as it is stored."""
        whole = [entry.stored for entry in self.inputs if isinstance(entry, Replacement)]
        yield from (tensor for tensor in (*whole, self.base) if isinstance(tensor, StoredTensor))
        for entry in (*self.inputs, self.base):
            if isinstance(entry, Run):
                yield from entry.stored()

    @property
    def is_scanned(self) -> bool:
        """Whether surveys go through stored rows where they lie, and a chunk of any length takes no more memory."""
        return self.merge.method.scans and _stored_entries(self) is not None

    def open(self, elements: int | None = None) -> "Reader":
        """A reader for one thread, with room for `elements` at a time."""
        return Reader(self, elements or chunk_elements(self.merge))

    def open_result(self) -> Result:
        """What computes the stored result on one thread, once the surveys are done."""
        reader = self.open()
        ready = Ready(self.merge, self.weights, self.state, reader.loaders, reader.source, chunk_elements(self.merge))
        return shortcut(ready) or reader


def _settled(merge: Merge) -> State:
    """The state that a method needs no survey for, where all inputs know their entries."""
    entries = [entry for entry in merge.inputs if isinstance(entry, (Absent, Ternary))]
    return merge.method.settled(entries, merge.spec.size) if len(entries) == len(merge.inputs) else None


class Reader:
    """Computes chunks of one run in memory of its own; a `Loader`, so that a merge can be an input."""

    def __init__(self, run: Run, elements: int) -> None:
        self._run = run
        self.loaders: list[Loader] = [
            entry.open(elements) if isinstance(entry, Run) else entry.open() for entry in run.inputs
        ]
        # Memory that nothing is written to is not taken: rows that lie in files are rarely loaded.
        self._rows = np.empty(len(self.loaders) * elements, dtype=np.float32)
        self._base_loader = _base_loader(run, elements)
        self._base = np.empty(elements, dtype=np.float32)
        self.source = _stored_rows(run)
        self._stored_base = StoredRows.of([run.base.labelled()]) if isinstance(run.base, StoredTensor) else None

    def chunk(self, start: int, size: int) -> Chunk:
        """The ingredients' elements [start, start + size), valid until the next call."""
        merge = self._run.merge
        place = start, merge.spec.name, merge.spec.shape, merge.seed, merge.statistics_at(start, size)
        rows = self._rows[: len(self.loaders) * size].reshape(len(self.loaders), size)
        if self.source is not None:
            return Chunk(self.source.run(start, size, rows), self._base_rows(start, size), *place)
        base = self._load_base(start, size)
        for loader, row in zip(self.loaders, rows, strict=True):
            if merge.space == "delta":
                loader.load_delta(row, start, base)
            else:
                loader.load_weight(row, start, base)
        return Chunk(rows, base, *place)

    def survey(self, round_: int, start: int, size: int, so_far: Counts | None) -> Partial:
        """What the method's survey finds in a chunk."""
        run = self._run
        return run.merge.method.survey(round_, self.chunk(start, size), run.weights, run.state, so_far)

    def stored(self, start: int, size: int) -> NDArray[Any]:
        """The merged elements in the output's dtype: rounded once, here."""
        chunk, result = self._merge(start, size)
        label = self._run.merge.spec.dtype.label
        if self._run.merge.space == "weight" or self._run.merge.method.bare:
            return narrow(result, label)
        assert chunk.base is not None, "planning refuses a delta method without a base"
        return add_scaled_narrow(chunk.base, result, self._run.merge.scale, label)

    def merged(self, start: int, size: int) -> Rows:
        """The merged weights in float32: base + scale · delta for a method on deltas."""
        chunk, result = self._merge(start, size)
        return result if chunk.base is None or self._run.merge.space == "weight" else self._added(chunk.base, result)

    def _added(self, base: Rows, delta: Rows) -> Rows:
        return add_scaled_narrow(base, delta, self._run.merge.scale, "float32")

    def _merge(self, start: int, size: int) -> tuple[Chunk, Rows]:
        run, chunk = self._run, self.chunk(start, size)
        return chunk, run.merge.method.merge(chunk, run.weights, run.state)

    def load_weight(self, out: Rows, start: int, base: Rows | None) -> None:
        out[:] = self.merged(start, out.size)

    def load_delta(self, out: Rows, start: int, base: Rows | None) -> None:
        assert base is not None, "planning refuses a delta method without a base"
        if self._run.is_delta_of_outer_base:
            # Added to the base and taken off again, a small delta would lose digits.
            with np.errstate(over="ignore", invalid="ignore"):  # the survey, or the check of results, tells the tensor
                np.multiply(self._merge(start, out.size)[1], np.float32(self._run.merge.scale), out=out)
        else:
            widen_difference(self.merged(start, out.size), "float32", base, out)

    def _load_base(self, start: int, size: int) -> Rows | None:
        if self._base_loader is None:
            return None
        self._base_loader.load_weight(self._base[:size], start, None)
        return self._base[:size]

    def _base_rows(self, start: int, size: int) -> Rows | StoredRows | None:
        """A base that may not be asked for."""
        if self._stored_base is None:
            return self._load_base(start, size)
        return self._stored_base.run(start, size, self._base[None, :size])


def _base_loader(run: Run, elements: int) -> Loader | None:
    if isinstance(run.base, Run):
        return run.base.open(elements)
    if isinstance(run.base, StoredTensor):
        return Replacement(run.base).open()
    return None if run.base is None else run.base.open()


def _stored_entries(run: Run) -> list[StoredTensor] | None:
    """The inputs that are whole stored tensors, for a method on deltas after their base; None where one is not."""
    entries = [run.base, *run.inputs] if run.merge.space == "delta" else run.inputs
    found = [entry.stored if isinstance(entry, Replacement) else entry for entry in entries]
    stored = [tensor for tensor in found if isinstance(tensor, StoredTensor)]
    return stored if len(stored) == len(entries) else None


def _stored_rows(run: Run) -> StoredRows | None:
    """The same as kernels take them."""
    entries = _stored_entries(run)
    if entries is None:
        return None
    stored = [tensor.labelled() for tensor in entries]
    return StoredRows.of(stored[1:], stored[0]) if run.merge.space == "delta" else StoredRows.of(stored)
