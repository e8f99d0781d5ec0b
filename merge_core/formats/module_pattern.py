"""`rank_pattern` and `alpha_pattern` of a LoRA config: the key that a module falls under, found in bounded time.

A key is a module's name, the end of one, or a regular expression for either. Expressions come from outside,
and Python matches them by trying every split of the name, so the steps are estimated before any is taken.
"""

import re
from collections.abc import Iterable, Sequence
from math import comb, prod

from merge_core.errors import FileError, UnsupportedError

MOST_EXPRESSIONS = 256
MOST_EXPRESSION_LENGTH = 256
MOST_STEPS = 2_000_000_000
"""For all modules of one adapter: some tens of seconds at the very worst."""

_LITERAL = re.compile(r"[\w.\-]+")
_QUANTIFIER = re.compile(r"(?<!\\)[*+{]")
_OPTIONAL = re.compile(r"(?<![\\(*+}?])\?")
_REPEATED_GROUP = re.compile(r"\)[*+{]|[*+}][*+{]")


def first_matches(patterns: Iterable[str], modules: Sequence[str], where: str) -> dict[str, str]:
    """Module → the first of `patterns` that names it or an end of it, as PEFT's `get_pattern_key` does.

    Modules that fall under none are left out. Raises FileError for what is no regular expression, and
    UnsupportedError for expressions that could take for ever.
    """
    order = {pattern: position for position, pattern in enumerate(patterns)}
    literal = {pattern for pattern in order if _LITERAL.fullmatch(pattern)}
    expressions = {pattern: _compile(pattern, where) for pattern in order if pattern not in literal}
    _check_steps(list(expressions), modules, where)
    found: dict[str, str] = {}
    for module in modules:
        candidates = [end for end in _ends(module) if end in literal]
        candidates += [pattern for pattern, expression in expressions.items() if expression.match(module)]
        if candidates:
            found[module] = min(candidates, key=order.__getitem__)
    return found


def full_matches(pattern: str, modules: Sequence[str], where: str) -> set[str]:
    """The modules that a regular expression matches from end to end, as PEFT reads one given as a string.

    Raises FileError and UnsupportedError as `first_matches` does.
    """
    expression = _compile(pattern, where)
    _check_steps([pattern], modules, where)
    inner = re.compile(pattern)
    return {module for module in modules if expression.match(module) and inner.fullmatch(module)}


def _ends(module: str) -> Iterable[str]:
    parts = module.split(".")
    return (".".join(parts[start:]) for start in range(len(parts)))


def _compile(pattern: str, where: str) -> "re.Pattern[str]":
    if len(pattern) > MOST_EXPRESSION_LENGTH or _REPEATED_GROUP.search(pattern):
        raise _endless(pattern, where)
    try:
        return re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, OverflowError, RecursionError) as error:
        message = f"not a regular expression: {error}"
        raise FileError(
            message, where=where, found=repr(pattern), expected="a module's name or an expression"
        ) from error


def _check_steps(expressions: Sequence[str], modules: Sequence[str], where: str) -> None:
    if len(expressions) > MOST_EXPRESSIONS:
        raise _endless(f"{len(expressions)} expressions", where)
    longest = max(map(len, modules), default=0)
    for pattern in expressions:
        if _steps(pattern, longest) * len(modules) * len(expressions) > MOST_STEPS:
            raise _endless(pattern, where)


def _steps(pattern: str, length: int) -> int:
    """How many ways there are to try the pattern on a name: splits, times alternatives, times optional parts."""
    splits = 1 + len(_QUANTIFIER.findall(pattern))
    alternatives = prod(1 + group.count("|") for group in pattern.split(")"))
    options = 1 << len(_OPTIONAL.findall(pattern))
    return comb(length + splits, splits) * alternatives * options


def _endless(pattern: str, where: str) -> UnsupportedError:
    expected = "names of modules, or expressions with fewer repetitions"
    return UnsupportedError(
        "the pattern could take for ever to match", where=where, found=repr(pattern[:80]), expected=expected
    )
