"""Rules of our recipes for one parameter of mergekit's, with values that our methods take."""

from typing import Any

from pydantic_core import PydanticCustomError

from merge_core.errors import RecipeError
from merge_core.mergekit.settings import Choice, Choices
from merge_core.methods import METHODS
from merge_core.recipe_rules import check_parameter

Data = dict[str, Any]

USUAL_EPSILON = 0.15
"""mergekit's, to either side of the density."""


def parameter_rule(choice: Choice, method: str, parameter: str, value: Any) -> Data:
    """Raises RecipeError for a value that our method does not take, by its place in the file."""
    for step in _steps(value):
        _refuse_misfit(choice.where, method, parameter, step)
    return {"match": choice.match, "parameters": {parameter: value}}


def width_rules(choices: Choices, densities: list[Data]) -> list[Data]:
    """DELLA's epsilon as it is meant here: the whole width, where mergekit's reaches to either side."""
    if all(rule["parameters"].get("density", 1) == 1 for rule in densities):
        return []  # nothing is dropped, whatever the width
    return [*map(_width_rule, choices), {"match": "*", "parameters": {"epsilon": 2 * USUAL_EPSILON}}]


def _width_rule(choice: Choice) -> Data:
    for step in _steps(choice.in_recipe):
        if not 0 <= step <= 0.5:
            message = "density ± epsilon goes beyond 0 or 1"
            raise RecipeError(message, where=choice.where, found=step, expected="0 to 0.5")
    return {"match": choice.match, "parameters": {"epsilon": _doubled(choice.in_recipe)}}


def _doubled(value: Any) -> Any:
    return {"gradient": [2 * step for step in value["gradient"]]} if isinstance(value, dict) else 2 * value


def _steps(value: Any) -> Any:
    return value["gradient"] if isinstance(value, dict) else (value,)


def _refuse_misfit(where: str, ours: str, parameter: str, value: object) -> None:
    """Raise RecipeError where a method of ours does not take the value, which stands at `where` in the file."""
    method = next(method for method in METHODS if method.title() == ours)
    try:
        check_parameter(where, parameter, value, method)
    except PydanticCustomError as error:
        context = error.context or {}
        found, expected = context.get("found"), context.get("expected")
        raise RecipeError(error.message_template, where=where, found=found, expected=expected) from None
