"""The order of work: surveys round by round, then merges, with every thread busy and little in flight.

A group is what shares its surveys: one tensor, or all of them where a method surveys the whole model. Its
stages follow each other; the pieces of a stage run in any order, and groups overlap, so threads do not wait.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

from merge_core.methods import Partial, Surveyed
from merge_core.plan import chunk_elements
from merge_core.run import Run

PIECE = 1 << 22
"""Elements of one unit of work: some milliseconds, so that a cancel is prompt and overhead is small."""


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


def pieces(run: Run) -> list[Piece]:
    """The tensor cut into units of work, along whole chunks."""
    elements = chunk_elements(run.merge)
    length = max(PIECE // elements, 1) * elements
    size = run.merge.spec.size
    return [Piece(run, start, min(start + length, size), elements) for start in range(0, size, length)]


Task = Callable[[], Any]
Conclude = Callable[[list[Any]], None]
Stage = Iterator[tuple[list[Task], Conclude]]
"""Yields (tasks, what to do with their results, in task order); the next is asked for when that is done."""


def survey_stages(runs: list[Run], finished: Callable[[Piece], None]) -> Stage:
    """The survey rounds of one level of a group: the same recipe's run for each of its tensors.

    `finished` is called from the thread that has surveyed a piece.
    """
    method = runs[0].merge.method
    for round_ in range(method.rounds):
        live = [run for run in runs if run.merge.spec.size > 0 and method.wants_round(round_, run.state)]
        work = [piece for run in live for piece in pieces(run)]
        tasks = [_survey_task(piece, round_, finished) for piece in work]

        def conclude(
            partials: list[Any], round_: int = round_, work: list[Piece] = work, live: list[Run] = live
        ) -> None:
            _conclude(round_, live, work, partials)

        if live:
            yield tasks, conclude


def _survey_task(piece: Piece, round_: int, finished: Callable[[Piece], None]) -> Task:
    def survey() -> Partial | None:
        reader = piece.run.open()
        partials = [reader.survey(round_, start, size) for start, size in piece.chunks()]
        finished(piece)
        return _total(partials)

    return survey


def _total(partials: list[Any]) -> Partial | None:
    return type(partials[0]).total(partials) if partials else None


def _conclude(round_: int, runs: list[Run], work: list[Piece], partials: list[Partial | None]) -> None:
    found: dict[int, list[Partial]] = {id(run): [] for run in runs}
    for piece, partial in zip(work, partials, strict=True):
        if partial is not None:
            found[id(piece.run)].append(partial)
    groups = [runs] if runs[0].merge.method.surveys == "model" else [[run] for run in runs]
    for group in groups:
        _conclude_group(round_, group, [_total(found[id(run)]) for run in group])


def _conclude_group(round_: int, runs: list[Run], totals: list[Partial | None]) -> None:
    """Hand one total to every run that shares it; a run without elements has no total and needs no state."""
    total = _total([partial for partial in totals if partial is not None])
    size = sum(run.merge.spec.size for run in runs)
    first_block = 0
    for run, own in zip(runs, totals, strict=True):
        if total is not None:
            over = Surveyed(run.merge.spec.name, size, first_block)
            run.state = run.merge.method.conclude(round_, total, over, run.weights, run.state)
        first_block += 0 if own is None else len(own.values)


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
        """Fill the pool, wait for a result and hand it on; False when nothing is left."""
        self._fill()
        if not self._running:
            return False
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        for future in done:
            stage, position = self._running.pop(future)
            stage.results[position] = future.result()
            stage.left -= 1
            if stage.left == 0:
                stage.finish(stage.results)
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
            self._running[self._pool.submit(stage.tasks[position])] = (stage, position)

    def _start(self, stages: Stage) -> None:
        for tasks, finish in stages:
            if tasks:
                stage = _Open(stages, tasks, finish, [None] * len(tasks), len(tasks))
                self._waiting.extendleft((stage, position) for position in reversed(range(len(tasks))))
                return
            finish([])


@dataclass(slots=True)
class _Open:
    stages: Stage
    tasks: list[Task]
    finish: Conclude
    results: list[Any]
    left: int
