"""Merges in a process of its own, whose anonymous memory is looked at all the while: `python -m … ROOT < CASES`."""

import ctypes
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import numba

from app.memory import PROCESS_BYTES, threads_within
from merge_core.execute import execute
from merge_core.plan import make_plan
from merge_core.recipe import Recipe
from merge_core.sources import folder_source

LOOK_S = 0.001


def anonymous_bytes() -> int:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


@contextmanager
def watched(peaks: list[int]) -> Iterator[None]:
    """Adds the most anonymous memory that was seen meanwhile."""
    done, seen = Event(), [anonymous_bytes()]

    def look() -> None:
        while not done.wait(LOOK_S):
            seen.append(anonymous_bytes())

    thread = Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        peaks.append(max(seen))


def measured(root: Path, recipe: dict[str, Any], budget: int) -> tuple[int, int]:
    """Before the merge, and at most."""
    peaks: list[int] = []
    ctypes.CDLL(None).malloc_trim(0)  # what the merge before has given back is not this one's
    before = anonymous_bytes()
    with TemporaryDirectory(dir=root) as out, watched(peaks):
        plan = make_plan(Recipe.parse(recipe), lambda name: folder_source(name, root), budget, PROCESS_BYTES)
        execute(plan, Path(out), threads=threads_within(plan, 2, budget), durable=False)
    return before, peaks[0]


if __name__ == "__main__":
    root = Path(sys.argv[1])
    # Else the first kernel that is not on disk yet would load the compiler within some merge.
    numba.njit(lambda: 0)()
    print(json.dumps([measured(root, recipe, budget) for recipe, budget in json.load(sys.stdin)]))
