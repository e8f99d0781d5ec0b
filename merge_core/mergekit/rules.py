"""Rules of our recipes for one parameter of mergekit's, with values that our methods take."""

from typing import Any

from pydantic_core import PydanticCustomError

from merge_core.errors import RecipeError
from merge_core.mergekit.settings import Choice
from merge_core.methods import METHODS
from merge_core.recipe_rules import check_parameter

Data = dict[str, Any]

USUAL_EPSILON = 0.15
"""mergekit's, to either side of the density."""


def parameter_rule(choice: Choice, method: str, parameter: str, value: Any) -> Data:
    """Raises RecipeError for a value that our method does not take, by its place in the file."""
    # DELLA's epsilon will be doubled yet, or has no effect.
    if (method, parameter) != ("della_linear", "epsilon"):
        for step in value["gradient"] if isinstance(value, dict) else (value,):
            _refuse_misfit(choice.where, method, parameter, step)
    return {"match": choice.match, "parameters": {parameter: value}}


def with_widths(rules: list[Data]) -> list[Data]:
    """DELLA's rules with epsilon as it is meant here: the whole width, where mergekit's reaches to either side."""
    others = [rule for rule in rules if "epsilon" not in rule["parameters"]]
    widths = [rule for rule in rules if "epsilon" in rule["parameters"]]
    if all(rule["parameters"].get("density", 1) == 1 for rule in others):
        return others  # nothing is dropped, whatever the width
    doubled = [{**rule, "parameters": {"epsilon": _doubled(rule["parameters"]["epsilon"])}} for rule in widths]
    return [*others, *doubled, {"match": "*", "parameters": {"epsilon": 2 * USUAL_EPSILON}}]


def _doubled(value: Any) -> Any:
    return {"gradient": [2 * step for step in value["gradient"]]} if isinstance(value, dict) else 2 * value


def _refuse_misfit(where: str, ours: str, parameter: str, value: object) -> None:
    """Raise RecipeError where a method of ours does not take the value, which stands at `where` in the file."""
    method = next(method for method in METHODS if method.title() == ours)
    try:
        check_parameter(where, parameter, value, method)
    except PydanticCustomError as error:
        context = error.context or {}
        found, expected = context.get("found"), context.get("expected")
        raise RecipeError(error.message_template, where=where, found=found, expected=expected) from None
