"""What the command prints: results on stdout, everything else on stderr, JSON for scripts."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from merge_core.errors import StockpotError

Progress = Callable[[int, int], None]


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def report_error(error: StockpotError, *, as_json: bool) -> None:
    """Say what is wrong on stderr: a sentence, or an object with the parts."""
    if as_json:
        parts = {"error": type(error).__name__, "message": error.message, "where": error.where}
        details = {
            key: None if value is None else str(value)
            for key, value in (("found", error.found), ("expected", error.expected))
        }
        sys.stderr.write(json.dumps(parts | details, ensure_ascii=False) + "\n")
    else:
        sys.stderr.write(f"stockpot: {error}\n")


def warn(warnings: tuple[str, ...] | list[str]) -> None:
    """Notes for the reader, on stderr."""
    for warning in warnings:
        sys.stderr.write(f"note: {warning}\n")


@contextmanager
def progress_bar(label: str, *, shown: bool) -> Iterator[Progress]:
    """A callback that draws a bar with speed and time left; it draws nothing unless stderr is a terminal."""
    if not shown or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    from app.command.label import Label

    columns = (
        Label(),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def after(before: int, total: int, progress: Progress) -> Callable[[int], None]:
    """Progress of one file among several: `before` bytes are done already."""
    return lambda done: progress(before + done, total)


def error_share(relative_error: float) -> str:
    """`  exact` or `error 1.23e-02`, in one width."""
    return f"error {relative_error:8.2e}" if relative_error else "         exact"


def human_size(nbytes: float) -> str:
    """`2.2 GB`: powers of 1000, three digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.3g} {unit}"
        nbytes /= 1000
    return f"{nbytes:.3g} TB"
