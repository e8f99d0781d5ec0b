"""Contestants taking turns at one task, A B C A B C …, so that a busy minute falls on all of them alike."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import BenchmarkError, Usage, measure

READ_BYTES = 1 << 22

PATIENCE_S = 30.0
"""A contestant slower than this in the warm-up has been measured by it: it does not run again. Not so the first of a
task, with which all others are compared: its warm-up may have compiled."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A program and its arguments; `out` is what it writes, removed before and after every run."""

    name: str
    command: tuple[str, ...]
    out: Path


@dataclass(frozen=True, slots=True)
class Task:
    """What all contestants do. `moved_bytes` counts every input once and the output once, whoever reads twice.

    `inputs` are read before every turn: while somebody else takes minutes, a system may drop what lies idle.
    """

    name: str
    shape: str
    dtype: str
    moved_bytes: int
    contestants: tuple[Contestant, ...]
    inputs: tuple[Path, ...] = ()


@dataclass(slots=True)
class Outcome:
    """One contestant's runs, in the order of the rounds, or why there are none."""

    usages: list[Usage] = field(default_factory=list)
    failure: str | None = None

    def middle(self, part: Callable[[Usage], float]) -> float:
        """The median over the runs."""
        return median(part(usage) for usage in self.usages)


@dataclass(frozen=True, slots=True)
class Terms:
    """How often, where the logs go, and when a run is given up."""

    rounds: int
    logs: Path
    timeout_s: float
    patience_s: float = PATIENCE_S


def compete(
    task: Task,
    terms: Terms,
    inspect: Callable[[Contestant], None] = lambda contestant: None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Outcome]:
    """Every contestant's outcome after one warm-up and the rounds; `inspect` may look at each one's first result."""
    outcomes = {contestant.name: Outcome() for contestant in task.contestants}
    for round_ in range(terms.rounds + 1):
        for contestant in task.contestants:
            outcome = outcomes[contestant.name]
            patience_s = inf if contestant is task.contestants[0] else terms.patience_s
            if outcome.failure is None and not _is_settled(outcome, patience_s):
                _read(task.inputs)
                said = _take_turn(contestant, outcome, terms, f"{task.name}-{contestant.name}")
                if round_ == 0:
                    _warmed_up(contestant, outcome, patience_s, inspect)
                say(f"{task.name}, {contestant.name}, {f'round {round_}' if round_ else 'warm-up'}: {said}")
                _remove(contestant.out)
    return outcomes


def _read(files: Iterable[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            while file.read(READ_BYTES):
                pass


def _take_turn(contestant: Contestant, outcome: Outcome, terms: Terms, label: str) -> str:
    """Run it once, and say how that went."""
    _remove(contestant.out)
    try:
        usage = measure(contestant.command, terms.logs / f"{label}.log", terms.timeout_s)
    except BenchmarkError as error:
        outcome.failure = str(error)
        return outcome.failure
    outcome.usages.append(usage)
    return f"{usage.wall_s:.2f} s"


def _warmed_up(
    contestant: Contestant, outcome: Outcome, patience_s: float, inspect: Callable[[Contestant], None]
) -> None:
    """Look at the first result, and forget its time unless it is all there will be."""
    if outcome.failure is None:
        inspect(contestant)
        if not _is_settled(outcome, patience_s):
            outcome.usages.clear()


def _is_settled(outcome: Outcome, patience_s: float) -> bool:
    return any(usage.wall_s > patience_s for usage in outcome.usages)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def ratio(of: Outcome, to: Outcome, part: Callable[[Usage], float]) -> float | None:
    """The median over the rounds of `of` over `to`, each pair from one round; of the medians where runs differ in
    number; None where either has no run or `to` used nothing."""
    if not of.usages or not to.usages or any(part(usage) <= 0 for usage in to.usages):
        return None
    if len(of.usages) != len(to.usages):
        return of.middle(part) / to.middle(part)
    return median(part(one) / part(other) for one, other in zip(of.usages, to.usages, strict=True))
