"""The demo's results, as a table for people and as JSON for scripts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tests.demo.score import Scores, mean
from tests.demo.tasks import TASKS

CAPTION = """own task each: every expert on its own task alone
kept: the mean as a share of that row's mean
gain: what is above the base, as a share of that row's"""


@dataclass(frozen=True, slots=True)
class Row:
    """A model, what it scores on each task, and how many bytes its repo has."""

    model: str
    scores: Scores
    nbytes: int


def experts_own(rows: Sequence[Row]) -> Row:
    """Each expert on its own task only: what one model holding all of them could reach."""
    experts = {task: next(row for row in rows if row.model == f"experts/{task}") for task in TASKS}
    scores = {task: row.scores[task] for task, row in experts.items()}
    return Row("own task each", scores, sum(row.nbytes for row in experts.values()))


def kept(row: Row, own: Row, base: Row) -> tuple[float, float]:
    """Share of the experts' mean score, and share of their gain over the base, that the model has."""
    gain = (mean(row.scores) - mean(base.scores)) / (mean(own.scores) - mean(base.scores))
    return mean(row.scores) / mean(own.scores), gain


def print_table(rows: Sequence[Row], console: Console) -> None:
    """`rows` starts with the base; a row for the experts on their own tasks is added."""
    own = experts_own(rows)
    table = Table(title="Held-out accuracy, %", caption=CAPTION, box=SIMPLE_HEAD, collapse_padding=True)
    for column in ("model", *TASKS, "mean", "kept", "gain", "MB"):
        table.add_column(column, justify="left" if column == "model" else "right", no_wrap=True)
    for row in (*rows, own):
        table.add_row(*_cells(row, own, rows[0]))
    console.print(table)


def as_json(rows: Sequence[Row]) -> str:
    own = experts_own(rows)
    return json.dumps([_record(row, own, rows[0]) for row in (*rows, own)], indent=2)


def _cells(row: Row, own: Row, base: Row) -> list[str]:
    shares = [row.scores[task] for task in TASKS] + [mean(row.scores), *kept(row, own, base)]
    return [row.model, *(f"{100 * share:.1f}" for share in shares), f"{row.nbytes / 1e6:.1f}"]


def _record(row: Row, own: Row, base: Row) -> dict[str, object]:
    of_experts, of_gain = kept(row, own, base)
    return {
        "model": row.model,
        "accuracy": row.scores,
        "mean": mean(row.scores),
        "of_experts": of_experts,
        "of_gain": of_gain,
        "bytes": row.nbytes,
    }
