"""Everything in order: models, peer, start-up, merges, kernels."""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.benchmarks.adapters import adapter_lines
from tests.benchmarks.agreement import Agreement
from tests.benchmarks.contest import PATIENCE_S, Outcome, Task, Terms, compete
from tests.benchmarks.kernel_speed import copy_speed, kernel_speeds, not_measured
from tests.benchmarks.measure import BenchmarkError
from tests.benchmarks.merges import COPY, FLOOR, MERGES, OURS, Bench, Merge, chosen
from tests.benchmarks.models import TINY, Shape, make_models
from tests.benchmarks.packing import packing_lines
from tests.benchmarks.peer import Peer, install_peer
from tests.benchmarks.real_packing import real_packing_lines
from tests.benchmarks.table import Row, StartUps, kernel_rows, task_rows
from tests.benchmarks.ternary import code_lines, expert_tasks

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What to measure, and where."""

    data: Path
    shape: Shape
    rounds: int
    timeout_s: float
    methods: list[str] | None
    with_peer: bool
    patience_s: float = PATIENCE_S


def run(settings: Settings, say: Say) -> Iterator[list[Row]]:
    """The rows of the table, task by task. Raises BenchmarkError where there is nothing to measure with."""
    merges = chosen(settings.methods, say)
    with _alone(settings.data) as work:
        yield from _measure_all(settings, merges, work, say)


@contextmanager
def _alone(data: Path) -> Iterator[Path]:
    """A folder to write to, for one benchmark at a time: two would take each other's time."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock, ExitStack() as stack:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BenchmarkError(f"another benchmark is using {data}: wait for it, or see --data") from error
        yield Path(stack.enter_context(TemporaryDirectory(prefix="work-", dir=data)))


def _measure_all(settings: Settings, merges: list[Merge], work: Path, say: Say) -> Iterator[list[Row]]:
    tiny = make_models(TINY, settings.data, say)
    models = make_models(settings.shape, settings.data, say)
    peer = _peer(settings, say)
    say("neither stockpot (--no-fsync) nor anybody else waits for the disk: all write to the page cache")
    rows, start_ups = _start_up(Bench(TINY, tiny, work, peer), settings, say)
    yield rows
    for merge in merges:
        yield _contest(Bench(settings.shape, models, work, peer).task(merge), settings, start_ups, say)[0]
    if settings.methods is None:
        yield from _ternary(Bench(settings.shape, models, work, peer), settings, start_ups, say)
        for line in adapter_lines(work):
            say(line)
    yield _kernels(say)


def _ternary(bench: Bench, settings: Settings, start_ups: StartUps, say: Say) -> Iterator[list[Row]]:
    for line in chain(code_lines(), packing_lines(bench.work), real_packing_lines(bench.work)):
        say(line)
    for task in expert_tasks(bench, say):
        yield _contest(task, settings, start_ups, say)[0]


def _peer(settings: Settings, say: Say) -> Peer | None:
    if not settings.with_peer:
        return None
    try:
        peer = install_peer(settings.data / "mergekit-env", say)
    except BenchmarkError as error:
        say(f"mergekit cannot be installed, so it is left out: {error}")
        return None
    say(f"the peer: {peer.versions}")
    return peer


def _start_up(bench: Bench, settings: Settings, say: Say) -> tuple[list[Row], StartUps]:
    """A merge of next to nothing: what is left is the time that each program needs before it can begin."""
    rows, outcomes = _contest(bench.task(MERGES[0], label="start-up", with_floor=False), settings, {}, say)
    return rows, {
        name: outcome.middle(lambda usage: usage.wall_s) for name, outcome in outcomes.items() if outcome.usages
    }


def _contest(task: Task, settings: Settings, start_ups: StartUps, say: Say) -> tuple[list[Row], dict[str, Outcome]]:
    logs = settings.data / "logs"
    logs.mkdir(exist_ok=True)
    agreement = Agreement()
    outcomes = compete(
        task, Terms(settings.rounds, logs, settings.timeout_s, settings.patience_s), agreement.inspect, say
    )
    merged = {name: agreement.difference(name, OURS) for name in outcomes if name not in (FLOOR, COPY)}
    return task_rows(task, outcomes, start_ups, merged), outcomes


def _kernels(say: Say) -> list[Row]:
    say("timing the kernels against their definitions, one core each")
    for name in not_measured():
        say(f"the kernel {name} has no row in tests/benchmarks/kernel_speed.py")
    return kernel_rows(kernel_speeds(), copy_speed())
