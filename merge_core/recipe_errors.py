"""From pydantic's account of a bad recipe to one sentence with a field path, found and expected."""

from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError

from merge_core.errors import RecipeError, nearest
from merge_core.methods import METHODS

if TYPE_CHECKING:
    from merge_core.recipe import Recipe

MOST_NESTING = 8


def validated(model: type["Recipe"], data: object) -> "Recipe":
    """Validate `data`; the first thing that is wrong becomes a RecipeError."""
    if not isinstance(data, dict):
        raise RecipeError("a recipe is an object", where="recipe", found=type(data).__name__, expected="object")
    if nesting(data) > MOST_NESTING:
        raise RecipeError(
            "recipes are nested too deep", where="ingredients[].source", expected=f"at most {MOST_NESTING} levels"
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _translate(model, error.errors()[0]) from error


def _translate(model: type[BaseModel], problem: Any) -> RecipeError:
    kind, path, found = problem["type"], _field_path(problem["loc"]), _short(problem.get("input"))
    if kind == "extra_forbidden":
        siblings = _siblings(model, problem["loc"])
        return RecipeError(
            "unknown field",
            where=path,
            found=repr(problem["loc"][-1]),
            expected=nearest(str(problem["loc"][-1]), siblings),
        )
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_method(path, problem)
    if kind == "missing":
        return RecipeError(
            "a required field is missing", where=path, found="nothing", expected=f"'{path.rsplit('.', 1)[-1]}'"
        )
    return RecipeError(problem["msg"].removeprefix("Value error, "), where=path, found=found)


def _unknown_method(path: str, problem: Any) -> RecipeError:
    given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
    names = [method.title() for method in METHODS]
    return RecipeError("unknown method", where=f"{path}.name", found=_short(given), expected=nearest(str(given), names))


def _field_path(location: tuple[int | str, ...]) -> str:
    """`ingredients[1].weight`; the tags that pydantic adds for unions are left out."""
    path = ""
    for part, before in zip(location, (None, *location), strict=False):
        if before in ("method", "source"):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    return path.lstrip(".") or "recipe"


def _siblings(recipe: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The fields that would have been known where the unknown one stands."""
    model = recipe
    for part, before in zip(location[:-1], (None, *location), strict=False):
        if before == "method":
            model = next(method for method in METHODS if method.title() == part)
        elif part == "recipe" and before == "source":
            model = recipe
        elif isinstance(part, str) and part in model.model_fields and part not in ("method", "source"):
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found), None)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def nesting(recipe: Any) -> int:
    """How deep recipes lie in recipes: 1 for one without a nested source. Reads raw data too."""
    depth, level = 0, [recipe]
    while level and depth <= MOST_NESTING:
        depth += 1
        level = [source for item in level for source in _nested_sources(item)]
    return depth


def _nested_sources(recipe: Any) -> list[Any]:
    ingredients = recipe.get("ingredients") if isinstance(recipe, dict) else None
    entries = ingredients if isinstance(ingredients, list) else []
    return [entry["source"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("source"), dict)]
