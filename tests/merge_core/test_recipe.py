"""Recipes from outside: whatever is sent is a recipe or an error that names the field."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from merge_core.errors import RecipeError
from merge_core.recipe import Recipe

NAMES = st.sampled_from(["a", "b", "team/math@main", "#0", "#1", "../x", "ü", "```", "x" * 50])
WEIGHTS = st.none() | st.integers(-3, 3) | st.floats(-1e30, 1e30)
METHODS = st.sampled_from(["linear", "task_arithmetic", "selma", {"name": "linear", "normalize": False}]) | st.one_of(
    st.fixed_dictionaries({"name": st.just("ties"), "density": st.floats(0, 1)}),
    st.fixed_dictionaries({"name": st.just("slerp"), "t": st.none() | st.floats(0, 1)}),
)


def _recipe(sources: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    ingredient = st.fixed_dictionaries({"source": sources}, optional={"weight": WEIGHTS})
    rule = st.fixed_dictionaries({"match": st.sampled_from(["*", "a.*", "[", "[!]"])}, optional={"take": st.just(0)})
    return st.fixed_dictionaries(
        {"method": METHODS, "ingredients": st.lists(ingredient, min_size=1, max_size=3)},
        optional={
            "base": st.none() | NAMES,
            "scale": st.floats(-10, 10),
            "seed": st.integers(0, 2**63 - 1),
            "dtype": st.sampled_from(["same", "float32", "bfloat16"]),
            "output": st.fixed_dictionaries({"max_shard_bytes": st.integers(1, 2**62)}),
            "tensors": st.lists(rule.filter(lambda entry: "take" in entry), max_size=2),
        },
    )


recipes = _recipe(NAMES | _recipe(NAMES | _recipe(NAMES)))

JUNK = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        0.5,
        1e39,
        float("nan"),
        float("inf"),
        10**30,
        10**4000,
        "",
        "0.5",
        "ties",
        "\ud800",
        b"a",
    ]
) | st.sampled_from([[], {}, [[]], {"name": "ties"}, {"a": {"b": 1}}, {"name": []}, {1: 2}, {0.5, 0.25}, (), object()])


def _places(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    entries = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [path, *(place for key, value in entries for place in _places(value, (*path, key)))]


def _put(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _put(data[path[0]], path[1:], value)
    return copy


@given(recipe=recipes)
def test_a_sound_recipe_is_read(recipe: dict[str, Any]) -> None:
    assert Recipe.parse(recipe).sources()


@settings(max_examples=500)
@given(recipe=recipes, junk=JUNK, key=st.text(max_size=4) | st.integers(), draw=st.data())
def test_any_change_of_a_recipe_gives_a_recipe_or_an_error_that_says_where(
    recipe: dict[str, Any], junk: Any, key: object, draw: st.DataObject
) -> None:
    path = draw.draw(st.sampled_from(_places(recipe)))
    changed = _put(recipe, path, draw.draw(st.sampled_from([junk, {**recipe, key: junk}, [junk, recipe]])))
    parsed = _recipe_or_error(changed)
    if isinstance(parsed, Recipe):
        assert Recipe.parse(json.loads(parsed.canonical())) == parsed
    else:
        assert parsed.where
        assert parsed.found is not None
        assert parsed.expected is not None
        assert len(str(parsed)) < 1000


def _recipe_or_error(data: object) -> Recipe | RecipeError:
    try:
        return Recipe.parse(data)
    except RecipeError as error:
        return error


@given(
    data=st.recursive(JUNK, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner), max_leaves=8)
)
def test_anything_else_is_an_error_that_says_where(data: object) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(data)
    assert caught.value.where


@given(recipe=recipes)
def test_the_canonical_text_comes_back_as_the_same_recipe_and_the_same_text(recipe: dict[str, Any]) -> None:
    parsed = Recipe.parse(recipe)
    again = Recipe.parse(json.loads(parsed.canonical()))
    assert again == parsed
    assert again.canonical() == parsed.canonical()
    assert Recipe.parse(dict(reversed(recipe.items()))).canonical() == parsed.canonical()


@given(recipe=recipes)
def test_renaming_sources_and_back_changes_nothing(recipe: dict[str, Any]) -> None:
    parsed = Recipe.parse(recipe)
    there = {name: f"repo-{position}" for position, name in enumerate(parsed.sources())}
    renamed = parsed.with_sources(there)
    assert renamed.sources() == list(there.values())
    assert renamed.with_sources({new: old for old, new in there.items()}) == parsed
    assert renamed.without_sources() == parsed.without_sources()
    assert parsed.with_sources({}) == parsed


@given(recipe=recipes)
def test_sources_are_named_once_and_the_base_first(recipe: dict[str, Any]) -> None:
    sources = Recipe.parse(recipe).sources()
    assert len(set(sources)) == len(sources)
    assert sources[0] == recipe.get("base") or recipe.get("base") is None


def test_names_that_look_like_places_are_swapped_at_once() -> None:
    recipe = Recipe.parse({"method": "linear", "ingredients": [{"source": "#1"}, {"source": "#0"}]})
    assert [entry["source"] for entry in json.loads(recipe.without_sources())["ingredients"]] == ["#0", "#1"]


def test_zeros_that_are_equal_give_equal_text() -> None:
    texts = [Recipe.parse(simple(weight=zero, scale=zero)).canonical() for zero in (0, 0.0, -0.0)]
    assert len(set(texts)) == 1


def simple(weight: object = 1.0, **more: object) -> dict[str, Any]:
    return {"method": "task_arithmetic", "ingredients": [{"source": "a", "weight": weight}]} | more


def nested(depth: int) -> dict[str, Any]:
    return simple() if depth == 1 else simple(ingredients=[{"source": nested(depth - 1)}])


def wide(depth: int, branches: int) -> dict[str, Any]:
    inner = simple() if depth == 1 else wide(depth - 1, branches)
    return simple(ingredients=[{"source": inner}] * branches)


TIES = {"name": "ties"}

REFUSED: dict[str, tuple[object, str, str, str]] = {
    "weight true": (simple(True), "ingredients[0].weight", "True", "a valid number"),
    "weight as a string": (simple("0.5"), "ingredients[0].weight", "'0.5'", "a valid number"),
    "weight NaN": (simple(float("nan")), "ingredients[0].weight", "nan", "a finite number"),
    "weight infinite": (simple(float("-inf")), "ingredients[0].weight", "-inf", "a finite number"),
    "weight past float32": (simple(1e39), "ingredients[0].weight", "1e+39", "less than or equal to 34000"),
    "weight of 5000 digits": (simple(10**5000), "ingredients[0].weight", "an integer of 16610 bits", "a valid number"),
    "weight in a list": (simple([1.0]), "ingredients[0].weight", "[1.0]", "a valid number"),
    "scale true": (simple(scale=True), "scale", "True", "a valid number"),
    "scale NaN": (simple(scale=float("nan")), "scale", "nan", "a finite number"),
    "seed -1": (simple(seed=-1), "seed", "-1", "greater than or equal to 0"),
    "seed 1.0": (simple(seed=1.0), "seed", "1.0", "a valid integer"),
    "seed 2^63": (simple(seed=2**63), "seed", str(2**63), f"less than {2**63}"),
    "density -1": (simple(method=TIES | {"density": -1}), "method.density", "-1", "greater than or equal to 0"),
    "density 20": (simple(method=TIES | {"density": 20}), "method.density", "20", "less than or equal to 1"),
    "density as a string": (simple(method=TIES | {"density": "0.2"}), "method.density", "'0.2'", "a valid number"),
    "density true": (simple(method=TIES | {"density": True}), "method.density", "True", "a valid number"),
    "normalize 1": (simple(method={"name": "linear", "normalize": 1}), "method.normalize", "1", "a valid boolean"),
    "a misspelt method": (simple(method="tyes"), "method.name", "'tyes'", "one of 'ties'"),
    "a misspelt method's parameter": (simple(method=TIES | {"densty": 1}), "method.densty", "'densty'", "'density'"),
    "a misspelt convention": (simple(method=TIES | {"convention": "pfet"}), "method.convention", "'pfet'", "'peft'"),
    "a misspelt field": (simple(scal=1), "scal", "'scal'", "one of 'scale'"),
    "a misspelt field that is required": (
        {"metod": "linear", "ingredients": []},
        "metod",
        "'metod'",
        "one of 'method'",
    ),
    "a misspelt field of an ingredient": (
        simple(ingredients=[{"sorce": "a"}]),
        "ingredients[0].sorce",
        "'sorce'",
        "'source'",
    ),
    "a misspelt field of a rule": (simple(tensors=[{"mach": "*"}]), "tensors[0].mach", "'mach'", "one of 'match'"),
    **{
        f"fields where a rule's {name} is a parameter": (
            simple(tensors=[{"match": "*", "parameters": {name: {"name": "ties"}}}]),
            f"tensors[0].parameters.{name}.name",
            "'name'",
            "one of 'gradient'",
        )
        for name in ("method", "source", "base")
    },
    "a misspelt field of the output": (simple(output={"knd": "x"}), "output.knd", "'knd'", "one of 'kind'"),
    "a misspelt field deep inside": (
        simple(ingredients=[{"source": simple(method=TIES | {"aggregat": "sum"})}]),
        "ingredients[0].source.method.aggregat",
        "'aggregat'",
        "'aggregate'",
    ),
    "a field of a megabyte": (simple(**{"s" * 1_000_000: 1}), "s" * 80, f"'{'s' * 80}'", "one of"),
    "no method": ({"ingredients": [{"source": "a"}]}, "method", "nothing", "'method'"),
    "no ingredients": ({"method": "linear"}, "ingredients", "nothing", "'ingredients'"),
    "an empty list of ingredients": (simple(ingredients=[]), "ingredients", "0 entries", "1 to 256 entries"),
    "a million ingredients": (
        simple(ingredients=[{"source": "a"}] * 1_000_000),
        "ingredients",
        "1000000 entries",
        "1 to 256 entries",
    ),
    "ingredients in a set": (simple(ingredients={"a"}), "ingredients", "set", "a list"),
    "weights in a set": (simple(tensors=[{"match": "*", "weights": {1.0}}]), "tensors[0].weights", "set", "a list"),
    "an empty source": (simple(ingredients=[{"source": ""}]), "ingredients[0].source", "''", "at least 1 character"),
    "a source of bytes": (simple(ingredients=[{"source": b"a"}]), "ingredients[0].source", "b'a'", "a valid string"),
    "a source that is half a surrogate": (simple(base="\ud800"), "base", r"'\ud800'", "Unicode"),
    "a source of 5000 characters": (simple(base="a" * 5000), "base", "'aaa", "at most 4096 characters"),
    "an unknown dtype": (simple(dtype="bfloat"), "dtype", "'bfloat'", "'same', 'float32', 'float16' or 'bfloat16'"),
    "shards of no bytes": (simple(output={"max_shard_bytes": 0}), "output.max_shard_bytes", "0", "greater than or"),
    "shards of 5000 digits": (
        simple(output={"max_shard_bytes": 10**5000}),
        "output.max_shard_bytes",
        "an integer of 16610 bits",
        "less than",
    ),
    "two weights for one ingredient": (
        simple(tensors=[{"match": "*", "weights": [1, 2]}]),
        "tensors[0].weights",
        "2 weights",
        "1, one for each ingredient",
    ),
    "a rule with weights and take": (
        simple(tensors=[{"match": "*", "weights": [1], "take": 0}]),
        "tensors[0]",
        "both",
        "one",
    ),
    "a rule with neither": (simple(tensors=[{"match": "*"}]), "tensors[0]", "neither", "one of them"),
    "take past the last": (simple(tensors=[{"match": "*", "take": 1}]), "tensors[0].take", "1", "0 to 0"),
    "take -1": (
        simple(tensors=[{"match": "*", "take": -1}]),
        "tensors[0].take",
        "-1",
        "'base', or an ingredient's index",
    ),
    "take true": (simple(tensors=[{"match": "*", "take": True}]), "tensors[0].take", "True", "'base', or"),
    "take by name": (simple(tensors=[{"match": "*", "take": "bse"}]), "tensors[0].take", "'bse'", "'base', or"),
    "take from no base": (simple(tensors=[{"match": "*", "take": "base"}]), "tensors[0].take", "'base'", "an index"),
    "a rule that does not fit, deep inside": (
        simple(ingredients=[{"source": simple(tensors=[{"match": "*", "take": 1}])}]),
        "ingredients[0].source.tensors[0].take",
        "1",
        "0 to 0",
    ),
    "recipes 9 deep": (nested(9), "ingredients[].source", "9 levels or more", "at most 8 levels"),
    "recipes 50 deep": (nested(50), "ingredients[].source", "9 levels or more", "at most 8 levels"),
    "a million recipes from few lines": (wide(7, 10), "ingredients[].source", "1111 recipes or more", "256 recipes"),
    "a list": ([], "recipe", "list", "object"),
    "nothing": (None, "recipe", "NoneType", "object"),
    "a number as field": ({1: 2} | simple(), "[1]", "1", "a text as key"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_recipe_that_is_wrong_names_field_found_and_expected(kind: str) -> None:
    data, where, found, expected = REFUSED[kind]
    with pytest.raises(RecipeError) as caught:
        Recipe.parse(data)
    assert caught.value.where == where
    assert found in str(caught.value.found)
    assert expected in str(caught.value.expected)
    assert len(str(caught.value)) < 600


def test_recipes_8_deep_are_read() -> None:
    assert Recipe.parse(nested(8)).sources() == ["a"]
