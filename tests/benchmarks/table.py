"""What was measured, as one table and as JSON."""

import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table

from tests.benchmarks.contest import Outcome, Task, ratio
from tests.benchmarks.kernel_speed import Speed
from tests.benchmarks.measure import Usage
from tests.benchmarks.merges import COPY, FLOOR, OURS

WIDTH = 200
KERNEL = "kernel"
TITLE = """wall, CPU, anon MiB (peak): medians · GB/s: inputs once + output once over wall · ÷ floor: of wall
÷ ours: how many times stockpot's wall, wall net of start-up, CPU, anon · differs: from stockpot's, relative RMS"""


@dataclass(frozen=True, slots=True)
class Row:
    """One contestant at one task. Times and memory are medians over `runs`; `per_ours` of a quantity is how many
    times stockpot's it is, and `net` leaves each one's own start-up out. Of a kernel, wall is that of one call."""

    task: str
    contestant: str
    shape: str
    dtype: str
    runs: int = 0
    wall_s: float | None = None
    cpu_s: float | None = None
    anon_bytes: float | None = None
    bytes_per_s: float | None = None
    ns_per_element: float | None = None
    spread: float | None = None
    per_floor: float | None = None
    wall_per_ours: float | None = None
    net_per_ours: float | None = None
    cpu_per_ours: float | None = None
    anon_per_ours: float | None = None
    differs: float | None = None
    failure: str | None = None


StartUps = dict[str, float]
"""Seconds that each contestant takes to do next to nothing."""


def task_rows(
    task: Task, outcomes: dict[str, Outcome], start_ups: StartUps, differs: dict[str, float | None]
) -> list[Row]:
    """A row for each contestant, stockpot first."""
    return [_task_row(task, name, outcomes, start_ups, differs.get(name)) for name in outcomes]


def _task_row(task: Task, name: str, outcomes: dict[str, Outcome], start_ups: StartUps, differs: float | None) -> Row:
    own, ours = outcomes[name], outcomes[OURS]
    if not own.usages:
        return Row(task.name, name, task.shape, task.dtype, failure=own.failure or "no run")
    wall_s = own.middle(wall)
    walls = [usage.wall_s for usage in own.usages]
    # A plain copy moves one model and not the task's; its bytes over its time would say nothing beside the others'.
    speed = None if name == COPY else task.moved_bytes / wall_s
    return Row(
        task.name,
        name,
        task.shape,
        task.dtype,
        len(own.usages),
        wall_s,
        own.middle(_cpu),
        own.middle(_anon),
        speed,
        spread=(max(walls) - min(walls)) / wall_s,
        per_floor=ratio(own, outcomes[FLOOR], wall) if FLOOR in outcomes else None,
        wall_per_ours=ratio(own, ours, wall),
        net_per_ours=_net(name, own, ours, start_ups),
        cpu_per_ours=ratio(own, ours, _cpu),
        anon_per_ours=ratio(own, ours, _anon),
        differs=differs,
        failure=own.failure,
    )


def _net(name: str, own: Outcome, ours: Outcome, start_ups: StartUps) -> float | None:
    if name not in start_ups or OURS not in start_ups or not ours.usages:
        return None
    rest, our_rest = own.middle(wall) - start_ups[name], ours.middle(wall) - start_ups[OURS]
    return rest / our_rest if our_rest > 0 else None


def kernel_rows(speeds: list[Speed], copy_bytes_per_s: float) -> list[Row]:
    """Two rows for each operation; its floor is a copy of as many bytes within the cache."""
    return [
        Row(
            speed.operation,
            who,
            speed.shape,
            speed.dtype,
            wall_s=taken,
            bytes_per_s=speed.moved_bytes / taken,
            ns_per_element=1e9 * taken / speed.elements,
            per_floor=taken * copy_bytes_per_s / speed.moved_bytes,
            wall_per_ours=taken / speed.kernel_s,
        )
        for speed in speeds
        for who, taken in ((KERNEL, speed.kernel_s), ("reference", speed.reference_s))
    ]


def wall(usage: Usage) -> float:
    return usage.wall_s


def _cpu(usage: Usage) -> float:
    return usage.cpu_s


def _anon(usage: Usage) -> float:
    return usage.anon_bytes


COLUMNS: dict[str, Callable[[Row], str]] = {
    "what": lambda row: row.task,
    "who": lambda row: row.contestant,
    "shape": lambda row: row.shape,
    "dtype": lambda row: row.dtype,
    "runs": lambda row: _number(row.runs or None),
    "wall": lambda row: f"{_number(row.wall_s)} s" if row.ns_per_element is None else f"{row.ns_per_element:.3f} ns/el",
    "spread": lambda row: "-" if row.spread is None else f"{100 * row.spread:.0f} %",
    "CPU s": lambda row: _number(row.cpu_s),
    "anon MiB": lambda row: "-" if row.anon_bytes is None else f"{row.anon_bytes / 2**20:.0f}",
    "GB/s": lambda row: "-" if row.bytes_per_s is None else f"{row.bytes_per_s / 1e9:.2f}",
    "÷ floor": lambda row: _number(row.per_floor),
    "÷ ours": lambda row: _number(row.wall_per_ours),
    "net": lambda row: _number(row.net_per_ours),
    "CPU ÷": lambda row: _number(row.cpu_per_ours),
    "anon ÷": lambda row: _number(row.anon_per_ours),
    "differs": lambda row: "-" if row.differs is None else f"{row.differs:.0e}",
}
LEFT = 4


def print_table(rows: Iterable[Row], console: Console) -> None:
    """The table, and under it why a contestant has no times."""
    rows = list(rows)
    table = Table(title=TITLE, title_justify="left")
    for position, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if position < LEFT else "right", no_wrap=True)
    for position, row in enumerate(rows):
        following = rows[position + 1] if position + 1 < len(rows) else None
        ends = row.ns_per_element is None and (following is None or following.task != row.task)
        table.add_row(*(cell(row) for cell in COLUMNS.values()), end_section=ends)
    console.print(table)
    for row in rows:
        if row.failure:
            console.print(f"{row.task}, {row.contestant}: {row.failure}", markup=False)


def wide_console() -> Console:
    """A pipe or a log has no width of its own, and 80 columns would fold the table."""
    return Console(width=None if sys.stdout.isatty() else WIDTH)


def as_data(rows: Iterable[Row]) -> list[dict[str, object]]:
    """Ready for JSON."""
    return [asdict(row) for row in rows]


def _number(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
