"""Numbers in YAML are those of YAML 1.2; nothing quoted is one. What no field can mean is named by its place."""

import math

import pytest

from merge_core.documents import parse_yaml, parse_yaml_documents
from merge_core.errors import MalformedError
from merge_core.recipe import Recipe

NUMBERS = {"1e-4": 1e-4, "1E5": 1e5, "1.5e3": 1500.0, "-2e+3": -2000.0, "+.5e1": 5.0, "5.e2": 500.0, "1.5e-3": 0.0015}
TEXTS = ["e5", "12e", "1e5x", "1e-", "1_0e3", "0x1e5g", ".e3", "1e5 b", "--1e5", "team/1e5"]


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_with_an_exponent_is_a_number(text: str) -> None:
    [found] = parse_yaml_documents(f"[{text}, '{text}', \"{text}\", {text}]".encode())
    assert found == [NUMBERS[text], text, text, NUMBERS[text]]
    assert parse_yaml(f"t: {text}\n".encode()) == {"t": NUMBERS[text]}


@pytest.mark.parametrize("text", TEXTS)
def test_what_only_looks_like_a_number_stays_a_text(text: str) -> None:
    assert parse_yaml(f"t: {text}\n".encode()) == {"t": text}


def test_a_number_beyond_all_floats_is_refused() -> None:
    assert math.isinf(float("1e999"))
    with pytest.raises(MalformedError, match="finite number"):
        parse_yaml(b"t: 1e999\n")


MEANINGLESS = {
    "t: 1e999": "t",
    ".inf": "document",
    "models: [{a: 1}, {b: [0, 2020-01-01]}]": "models[1].b[1]",
    't: "\\0"': "t",
    '{t: {"\\0": 1}}': "t",
    "a: 1\n---\nb: {c: .nan}": "document 2: b.c",
    "a: 1\n---\n.nan": "document 2",
}


@pytest.mark.parametrize("text", MEANINGLESS)
def test_what_no_field_can_mean_is_named_by_its_place(text: str) -> None:
    with pytest.raises(MalformedError) as refused:
        parse_yaml_documents(text.encode())
    assert refused.value.where == MEANINGLESS[text]


def test_a_recipe_has_small_numbers_as_they_are_written() -> None:
    raw = b"{method: {name: slerp, t: 1e-4}, ingredients: [{source: a}, {source: b, weight: 1e0}]}"
    recipe = Recipe.parse(parse_yaml(raw))
    assert recipe.method.model_dump()["t"] == 1e-4
    assert recipe.ingredients[1].weight == 1.0
