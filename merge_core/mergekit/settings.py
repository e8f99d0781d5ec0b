"""A parameter as mergekit writes it: a scalar, a gradient over the layers, or choices by substring of the name."""

from contextlib import suppress
from dataclasses import dataclass, field
from glob import escape
from math import isfinite
from typing import Any

from merge_core.errors import RecipeError, UnsupportedError

Plain = bool | float | int


@dataclass(frozen=True, slots=True)
class Choice:
    """What holds for tensors with `substring` in their name, None for all: a scalar, or a gradient as a list.

    `where` is the value's place in the file; what is the same elsewhere is the same choice.
    """

    substring: str | None
    value: Plain | tuple[float, ...]
    where: str = field(default="", compare=False)

    @property
    def match(self) -> str:
        return "*" if self.substring is None else f"*{escape(self.substring)}*"

    @property
    def in_recipe(self) -> Any:
        """The value as a recipe has it: a number, as which mergekit takes true and false too."""
        if isinstance(self.value, tuple):
            return {"gradient": list(self.value)}
        return int(self.value) if isinstance(self.value, bool) else self.value


Choices = tuple[Choice, ...]
Parameters = dict[str, Any]


def choices_of(levels: list[tuple[str, Parameters]], name: str) -> Choices:
    """The choices for parameter `name`, highest precedence first, up to the first that holds for every tensor."""
    found: list[Choice] = []
    for where, parameters in levels:
        if name in parameters:
            found += _choices(parameters[name], f"{where}.{name}")
    for position, choice in enumerate(found):
        if choice.substring is None:
            return tuple(found[: position + 1])
    return tuple(found)


def holds_everywhere(choices: Choices) -> bool:
    return bool(choices) and choices[-1].substring is None


def _choices(setting: Any, where: str) -> list[Choice]:
    if isinstance(setting, dict):
        return [_conditional(setting, where)]
    if isinstance(setting, list) and any(isinstance(entry, dict) for entry in setting):
        return [_conditional(entry, f"{where}[{position}]") for position, entry in enumerate(setting)]
    return [Choice(None, _value(setting, where), where)] if setting != [] else []


def _conditional(entry: Any, where: str) -> Choice:
    known = {"filter", "value"}
    if not isinstance(entry, dict) or "value" not in entry or entry.keys() - known:
        found = sorted(entry) if isinstance(entry, dict) else entry
        raise RecipeError("not a value with a filter", where=where, found=found, expected="{filter: text, value: …}")
    substring = entry.get("filter")
    if substring is not None and not isinstance(substring, str):
        raise RecipeError("a filter is a part of a tensor's name", where=where, found=substring, expected="a text")
    place = f"{where}.value"
    return Choice(None if substring in (None, "*") else substring, _value(entry["value"], place), place)


def _value(setting: Any, where: str) -> Plain | tuple[float, ...]:
    if not isinstance(setting, list):
        return _scalar(setting, where)
    steps = [_scalar(entry, f"{where}[{position}]") for position, entry in enumerate(setting)]
    if len(set(steps)) == 1:
        return steps[0]
    if not steps or any(isinstance(step, bool) for step in steps):
        message = "a gradient of anything but numbers is not supported"
        raise UnsupportedError(message, where=where, found=setting, expected="numbers")
    return tuple(float(step) for step in steps)


def _scalar(value: Any, where: str) -> Plain:
    """YAML 1.1 reads 1e-5, without a point, as text; mergekit's types read it back as a number."""
    if isinstance(value, str):
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        with suppress(ValueError):
            if isfinite(number := float(value)):
                return number
    elif isinstance(value, (bool, int, float)):
        return value
    raise RecipeError(
        "not a parameter's value", where=where, found=repr(value)[:80], expected="a number or true or false"
    )
