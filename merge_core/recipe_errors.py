"""From pydantic's account of a bad recipe to one sentence with a field path, found and expected."""

import reprlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from merge_core.errors import RecipeError, nearest
from merge_core.methods import METHODS

if TYPE_CHECKING:
    from merge_core.recipe import Recipe

MOST_NESTING = 8
MOST_INGREDIENTS = 256
MOST_RECIPES = 256
"""Recipes in one recipe, itself included; in YAML a few lines of aliases can mean millions."""

EXPECTED = {
    "string_too_short": "at least {min_length} character",
    "string_too_long": "at most {max_length} characters",
    "string_unicode": "text in Unicode",
    "invalid_key": "a text as key",
    "model_attributes_type": "an object",
    "model_type": "an object",
}
"""What pydantic's messages say in more words, or of Python's types."""

TAGGED = ("method", "source", "base", "take")
"""Fields of several forms; pydantic puts the form's tag after them."""


def misfit(message: str, where: str = "", *, found: object, expected: object) -> PydanticCustomError:
    """What a validator raises; `where` is below the field being validated."""
    return PydanticCustomError("misfit", message, {"where": where, "found": found, "expected": expected})


def validated(model: type["Recipe"], data: object) -> "Recipe":
    """Validate `data`; the first thing that is wrong becomes a RecipeError."""
    if not isinstance(data, dict):
        raise RecipeError("a recipe is an object", where="recipe", found=type(data).__name__, expected="object")
    _check_nesting(data)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # A misspelt field is the cause of the missing one.
        unknown = (problem for problem in problems if problem["type"] == "extra_forbidden")
        raise _translate(model, next(unknown, problems[0])) from error


def _translate(model: type["Recipe"], problem: Any) -> RecipeError:
    kind, path, found = problem["type"], _field_path(problem["loc"]), _short(problem.get("input"))
    if kind == "extra_forbidden":
        name, siblings = str(problem["loc"][-1])[:80], _siblings(model, problem["loc"])
        return RecipeError("unknown field", where=path, found=repr(name), expected=nearest(name, siblings))
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_method(path, problem)
    if kind == "missing":
        name = path.rsplit(".", 1)[-1]
        return RecipeError("a required field is missing", where=path, found="nothing", expected=f"'{name}'")
    if kind == "misfit":
        context = problem["ctx"]
        where = f"{path}.{context['where']}".removeprefix("recipe.") if context["where"] else path
        return RecipeError(problem["msg"], where=where, found=context["found"], expected=context["expected"])
    return RecipeError("the value is not acceptable", where=path, found=found, expected=_expected(path, problem))


def _expected(path: str, problem: Any) -> str:
    if path.endswith("take"):
        return "'base', or an ingredient's index from 0"
    stated = EXPECTED.get(problem["type"], "").format(**problem.get("ctx", {}))
    return stated or str(problem["msg"]).removeprefix("Input should be ")


def _unknown_method(path: str, problem: Any) -> RecipeError:
    given = problem["input"].get("name") if isinstance(problem["input"], dict) else problem["input"]
    expected = nearest(_short(given), [method.title() for method in METHODS])
    return RecipeError("unknown method", where=f"{path}.name", found=_short(given), expected=expected)


def _field_path(location: tuple[int | str, ...]) -> str:
    """`ingredients[1].weight`; the tags that pydantic adds for unions are left out: those in <> wherever they are."""
    path = ""
    for part, before in zip(location, (None, *location), strict=False):
        if before in TAGGED or str(part).startswith("<"):
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part[:80]}"
    return path.lstrip(".") or "recipe"


def _siblings(recipe: type["Recipe"], location: tuple[int | str, ...]) -> list[str]:
    """The fields that would have been known where the unknown one stands."""
    model: type[BaseModel] = recipe
    for part, before in zip(location[:-1], (None, *location), strict=False):
        # A parameter of a rule may be called so too, and no tag follows it.
        is_field = before in model.model_fields
        if is_field and before == "method":
            model = next(method for method in METHODS if method.title() == part)
        elif is_field and before in ("source", "base") and part in recipe.forms():
            model = recipe.forms()[str(part)]
        elif isinstance(part, str) and part in model.model_fields and part not in ("method", "source", "base"):
            model = next(_models_in(model.model_fields[part].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    else:
        for part in get_args(annotation):
            yield from _models_in(part)


def _short(value: object) -> str:
    """The value as text, 80 characters at most, however deep, long or large it is."""
    if isinstance(value, int) and value.bit_length() > 256:
        return f"an integer of {value.bit_length()} bits"
    text = _BRIEF.repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_BRIEF = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = 80
_BRIEF.maxlong = 80
_BRIEF.maxlevel = 4


def _check_nesting(data: object) -> None:
    """RecipeError for recipes too deep or too many; reads raw data, before pydantic walks it."""
    depth, count, level = 0, 0, [data]
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MOST_NESTING or count > MOST_RECIPES:
            limit = f"at most {MOST_NESTING} levels and {MOST_RECIPES} recipes"
            found = f"{depth} levels or more" if depth > MOST_NESTING else f"{count} recipes or more"
            where = "ingredients[].source"
            raise RecipeError("too many recipes in recipes", where=where, found=found, expected=limit)
        level = [source for item in level for source in _nested_sources(item)]


def _nested_sources(source: Any) -> list[Any]:
    """The recipes and stacks right inside one, as raw data."""
    base = [source["base"]] if isinstance(source, dict) and isinstance(source.get("base"), dict) else []
    inside = [source.get(key) for key in ("ingredients", "stack")] if isinstance(source, dict) else []
    entries = [entry for held in inside if isinstance(held, (list, tuple)) for entry in held[: MOST_INGREDIENTS + 1]]
    sources = [entry.get("source") for entry in entries if isinstance(entry, dict)]
    return base + [inner for inner in sources if isinstance(inner, dict)]
