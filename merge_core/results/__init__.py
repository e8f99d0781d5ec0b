"""Shortcuts from inputs to a stored result, for merges that need no float32 rows: one file each, and one line here."""

from collections.abc import Callable

from merge_core.results import low_rank, ternary, whole
from merge_core.results.contract import Ready, Result

SHORTCUTS: tuple[Callable[[Ready], Result | None], ...] = (whole.result, low_rank.result, ternary.result)


def shortcut(ready: Ready) -> Result | None:
    """The one that applies; None where rows have to be made and merged."""
    return next((result for take in SHORTCUTS if (result := take(ready)) is not None), None)


__all__ = ["Ready", "Result", "shortcut"]
