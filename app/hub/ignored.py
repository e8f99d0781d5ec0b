"""What a `.gitignore` leaves out."""

import re
import time
from collections.abc import Iterable

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from merge_core.errors import InputError

FILE = ".gitignore"
MOST_BYTES = 256 << 10
MOST_LINES = 2000
MOST_STARS, MOST_DOUBLE_STARS = 3, 2
"""In one part of a pattern, and in all of it: each takes as many times the steps as the path is long."""
MOST_COSTLY = 50
"""Lines with more than one."""
PATIENCE_S = 5.0


def ignored_of(content: str, paths: Iterable[str]) -> frozenset[str]:
    """Those of the paths that are left out. Raises InputError for patterns that cannot be read, or take too long."""
    lines = content.splitlines()
    if len(content) > MOST_BYTES or len(lines) > MOST_LINES:
        raise InputError("too long", where=FILE, found=f"{len(lines)} lines", expected=f"at most {MOST_LINES}")
    _check_costs(lines)
    try:
        spec = GitIgnoreSpec.from_lines(lines)
    except (GitIgnorePatternError, re.error) as error:
        raise InputError(f"not a pattern: {error}", where=FILE) from None
    return frozenset(_matching(spec, paths))


def _matching(spec: GitIgnoreSpec, paths: Iterable[str]) -> Iterable[str]:
    deadline = time.monotonic() + PATIENCE_S
    for path in paths:
        if time.monotonic() > deadline:
            raise InputError("these patterns take too long", where=FILE)
        if spec.match_file(path):
            yield path


def _check_costs(lines: list[str]) -> None:
    costly = 0
    for line in lines:
        parts = line.split("/")
        stars = max((part.count("*") for part in parts if part != "**"), default=0)
        doubles = parts.count("**")
        if stars > MOST_STARS or doubles > MOST_DOUBLE_STARS:
            expected = f"at most {MOST_STARS} '*' in one part, {MOST_DOUBLE_STARS} '**' in all"
            raise InputError("too many stars in a pattern", where=FILE, found=repr(line[:100]), expected=expected)
        costly += stars > 1 or doubles > 1
    if costly > MOST_COSTLY:
        raise InputError("too many patterns with several stars", where=FILE, found=costly, expected=MOST_COSTLY)
