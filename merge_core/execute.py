"""The one loop from plan to bytes."""

from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from threading import Lock

from kernels.all_finite import all_finite
from merge_core.errors import CancelledError
from merge_core.factorise import FactorSink, factorise
from merge_core.growth import GrowingSink, Growth
from merge_core.mapped_file import leave, refuse_cut
from merge_core.not_finite import not_finite
from merge_core.outputs import OutputSink
from merge_core.plan import Plan
from merge_core.planning.factors import Built, Factors, merge_of
from merge_core.planning.tensors import Copy, Merge
from merge_core.results import Result
from merge_core.run import Run
from merge_core.schedule import Batch, Piece, Stage, Task, carry_out, pieces
from merge_core.survey import survey_stages
from merge_core.survey_records import Memory, SurveyRecords

COPY_BYTES = 1 << 23


def execute(
    plan: Plan,
    folder: Path,
    *,
    threads: int = 2,
    shards: Collection[int] | None = None,
    durable: bool = True,
    surveys: SurveyRecords | None = None,
    growth: Growth | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> list[Path]:
    """Build the plan's files in `folder`, and return their paths.

    With `shards`, only the shards of those positions, and no side files. `on_progress` gets the output bytes
    passed over so far and in all, a pass for each survey and one for the merge. What surveys find is kept in
    `surveys`, and not surveyed again: the files are the same. `growth` is told what is written, if it is given.
    Raises CancelledError soon after `cancelled` turns true, and FileError for a tensor whose result is not
    finite; nothing is left in the folder by either.
    """
    chosen = [shard for position, shard in enumerate(plan.shards) if shards is None or position in shards]
    names = [slot.spec.name for shard in chosen for slot in shard.slots]
    build = _Build(plan, names, Memory(surveys, plan.marks))

    def check() -> None:
        on_progress(build.progress.done, build.progress.total)
        if cancelled():
            raise CancelledError("the build was cancelled")

    opened = plan.open_sink(folder, chosen, durable)
    with opened if growth is None else GrowingSink(opened, growth) as sink:
        carry_out(build.groups(sink), threads, check)
        build.memory.flush()
        on_progress(build.progress.total, build.progress.total)
        return sink.commit(plan.side_files if shards is None else {})


class _Progress:
    """Output bytes passed over, counted by every thread."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self._lock = Lock()

    def add(self, nbytes: int) -> None:
        with self._lock:
            self.done += nbytes

    def finished(self, piece: Piece) -> None:
        self.add((piece.stop - piece.start) * piece.run.merge.spec.dtype.itemsize)


class _Build:
    """The tensors to be built, in groups that share their surveys."""

    def __init__(self, plan: Plan, names: list[str], memory: Memory) -> None:
        self.memory = memory
        self._tensors = list(dict.fromkeys(plan.tensors[name] for name in names))
        self._surveyed = _merges(plan.tensors.values())
        self._is_shared = any(_surveys_model(tensor) for tensor in self._surveyed)
        self.progress = _Progress(self._surveys_nbytes() + sum(tensor.spec.nbytes for tensor in self._tensors))

    def _surveys_nbytes(self) -> int:
        surveyed = self._surveyed if self._is_shared else _merges(self._tensors)
        levels = _levels([Run(merge) for merge in surveyed])
        units = [[run.merge for run in unit] for level in levels for unit in _units(level)]
        unknown = [merge for unit in self.memory.unknown(units) for merge in unit]
        return sum(merge.method.rounds * merge.spec.nbytes for merge in unknown)

    def groups(self, sink: OutputSink) -> Iterator[Stage]:
        if self._is_shared:
            yield self._model_group(sink)
            return
        for tensor in self._tensors:
            yield self._tensor_group(tensor, sink)

    def _tensor_group(self, tensor: Built, sink: OutputSink) -> Stage:
        merge = merge_of(tensor)
        run = None if merge is None else Run(merge)
        for inner in () if run is None else run.nested():
            yield from self._survey_stages([inner])
        yield self._batch([(tensor, run)], sink)

    def _model_group(self, sink: OutputSink) -> Stage:
        """Every merge of the model is surveyed together, then what is wanted is built in the order of the files."""
        runs = {merge.spec.name: Run(merge) for merge in self._surveyed}
        for level in _levels(list(runs.values())):
            yield from self._survey_stages(level)
        yield self._batch([(tensor, runs.get(tensor.spec.name)) for tensor in self._tensors], sink)

    def _survey_stages(self, level: list[Run]) -> Stage:
        """The surveys of a level whose results are not known from an earlier build."""
        units = [unit for unit in _units(level) if not self.memory.recall(unit)]
        if units:
            yield from survey_stages([run for unit in units for run in unit], self.progress.finished)
        for unit in units:
            self.memory.keep(unit)

    def _batch(self, tensors: Iterable[tuple[Built, Run | None]], sink: OutputSink) -> Batch:
        return Batch([task for tensor, run in tensors for task in self._tasks(tensor, run, sink)])

    def _tasks(self, tensor: Built, run: Run | None, sink: OutputSink) -> Iterator[Task]:
        """The tasks that build a tensor, from its start on."""
        if isinstance(tensor, Copy):
            step = COPY_BYTES // tensor.spec.dtype.itemsize
            for start in range(0, tensor.spec.size, step):
                yield _copy_task(tensor, start, min(start + step, tensor.spec.size), sink, self.progress)
            return
        assert run is not None, "what is no copy is merged"
        if isinstance(tensor, Factors):
            yield _factor_task(tensor, run, sink, self.progress)
            return
        for piece in pieces(run):
            yield _merge_task(piece, sink, self.progress)


def _units(level: list[Run]) -> list[list[Run]]:
    """The runs of a level that share their surveys; none where nothing is surveyed."""
    method = level[0].merge.method
    if not any(method.wants_round(round_, None) for round_ in range(method.rounds)):
        return []
    return [level] if method.surveys == "model" else [[run] for run in level]


def _merges(tensors: Iterable[Built]) -> list[Merge]:
    """What is merged, each tensor once: both parts of a pair of factors have the same merge."""
    found = (merge_of(tensor) for tensor in tensors)
    return list(dict.fromkeys(merge for merge in found if merge is not None))


def _surveys_model(merge: Merge) -> bool:
    return merge.method.surveys == "model" or any(
        _surveys_model(entry) for entry in merge.read if isinstance(entry, Merge)
    )


def _levels(runs: list[Run]) -> list[list[Run]]:
    """Runs that carry out the same (nested) recipe, the innermost first.

    A tensor that an inner recipe only copies has no inner run, so one tensor alone does not tell the order.
    """
    levels: dict[int, list[Run]] = {}
    for run in runs:
        for inner in run.nested():
            levels.setdefault(id(inner.merge.method), []).append(inner)
    return sorted(levels.values(), key=lambda level: max(run.height for run in level))


def _merge_task(piece: Piece, sink: OutputSink, progress: _Progress) -> Task:
    def merge() -> None:
        piece.check()
        result = piece.run.open_result()
        for start, size in piece.chunks():
            _merge_chunk(piece.run, result, start, size, sink)
        piece.leave()
        progress.finished(piece)

    return merge


def _merge_chunk(run: Run, result: Result, start: int, size: int, sink: OutputSink) -> None:
    spec = run.merge.spec
    stored = result.stored(start, size)
    if not all_finite(stored, spec.dtype.label):
        raise not_finite(run.merge, run.open().chunk(start, size))
    sink.write(spec.name, start * spec.dtype.itemsize, stored)


def _factor_task(factors: Factors, run: Run, sink: OutputSink, progress: _Progress) -> Task:
    assert isinstance(sink, FactorSink), "an output with factors has a sink for them"
    accepting = sink

    def compute() -> None:
        a, b, error = factorise(factors, run)
        accepting.write(factors.a.name, 0, a)
        accepting.write(factors.b.name, 0, b)
        accepting.report(factors.spec.name, error)
        progress.add(factors.spec.nbytes)

    return compute


def _copy_task(copy: Copy, start: int, stop: int, sink: OutputSink, progress: _Progress) -> Task:
    def write() -> None:
        refuse_cut(copy.stored)
        data = copy.stored.storage()[start:stop]
        sink.write(copy.spec.name, start * copy.spec.dtype.itemsize, data)
        leave(copy.stored, start, stop)
        progress.add(data.nbytes)

    return write
