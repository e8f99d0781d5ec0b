"""The order of work: surveys round by round, then merges, with every thread busy and little in flight.

A group is what shares its surveys: one tensor, or all of them where a method surveys the whole model. Its
stages follow each other; the pieces of a stage run in any order, and groups overlap, so threads do not wait.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from merge_core.mapped_file import leave, refuse_cut
from merge_core.plan import chunk_elements
from merge_core.planning.tensors import Merge
from merge_core.run import Run

PIECE = 1 << 22
"""Elements of one unit of work over up to FEW inputs: some milliseconds, for a prompt cancel and little overhead."""

FEW = 4
LONGER = 4
"""How many times as long a unit of work is whose inputs take work to open."""

CHECKED_S = 0.1
"""Between two looks at whether to stop, however long a unit of work takes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of elements of one tensor, handled by one thread in chunks."""

    run: Run
    start: int
    stop: int
    elements: int

    def chunks(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each chunk."""
        for start in range(self.start, self.stop, self.elements):
            yield start, min(self.elements, self.stop - start)

    def check(self) -> None:
        """Make sure of what is about to be looked at."""
        for tensor in self.run.stored():
            refuse_cut(tensor)

    def leave(self) -> None:
        """Take what was looked at, and will not be again, out of the process."""
        for tensor in self.run.stored():
            leave(tensor, self.start, self.stop)


def pieces(run: Run, within: range | None = None, is_scanned: bool = False) -> list[Piece]:
    """The tensor, or those elements of it, cut into units of work of whole chunks; of one chunk if it `is_scanned`."""
    asked = range(run.merge.spec.size) if within is None else within
    elements = chunk_elements(run.merge)
    wanted = PIECE * FEW // max(len(run.merge.inputs), FEW) * (LONGER if _opens_much(run.merge) else 1)
    length = max(wanted // elements, 1) * elements
    step = length if is_scanned else elements
    return [
        Piece(run, start, min(start + length, asked.stop), step) for start in range(asked.start, asked.stop, length)
    ]


def _opens_much(merge: Merge) -> bool:
    """Whether inputs make something of themselves when they are opened: anew for each unit of work."""
    return any(entry.open_bytes > 0 for entry in merge.inputs if not isinstance(entry, Merge))


Task = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that may run in any order; results are collected as they come, and `finish` follows the last."""

    tasks: list[Task]
    collect: Callable[[int, Any], None] = lambda position, result: None
    finish: Callable[[], None] = lambda: None


Stage = Iterator[Batch]
"""Batches in order: the next is asked for when the one before is finished."""


def carry_out(groups: Iterator[Stage], threads: int, check: Callable[[], None]) -> None:
    """Run every stage of every group on `threads` threads; `check` may raise between results to stop."""
    with ThreadPoolExecutor(threads, thread_name_prefix="merge") as pool:
        flight = _Flight(pool, groups, 2 * threads)
        try:
            while flight.advance():
                check()
        finally:
            pool.shutdown(cancel_futures=True)


class _Flight:
    """Stages under way, and the tasks of theirs that are running or next in line."""

    def __init__(self, pool: ThreadPoolExecutor, groups: Iterator[Stage], most: int) -> None:
        self._pool, self._groups, self._most = pool, groups, most
        self._waiting: deque[tuple[_Open, int]] = deque()
        self._running: dict[Future[Any], tuple[_Open, int]] = {}

    def advance(self) -> bool:
        """Fill the pool, wait a moment for a result and hand it on; False when nothing is left."""
        self._fill()
        if not self._running:
            return False
        done, _ = wait(self._running, CHECKED_S, FIRST_COMPLETED)
        for future in done:
            stage, position = self._running.pop(future)
            stage.batch.collect(position, future.result())
            stage.left -= 1
            if stage.left == 0:
                stage.batch.finish()
                self._start(stage.stages)
        return True

    def _fill(self) -> None:
        while len(self._running) < self._most:
            while not self._waiting:
                group = next(self._groups, None)
                if group is None:
                    return
                self._start(group)
            stage, position = self._waiting.popleft()
            self._running[self._pool.submit(stage.batch.tasks[position])] = (stage, position)

    def _start(self, stages: Stage) -> None:
        for batch in stages:
            if batch.tasks:
                stage = _Open(stages, batch, len(batch.tasks))
                self._waiting.extendleft((stage, position) for position in reversed(range(stage.left)))
                return
            batch.finish()


@dataclass(slots=True)
class _Open:
    stages: Stage
    batch: Batch
    left: int
