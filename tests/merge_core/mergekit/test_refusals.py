"""What is wrong with a mergekit file is refused by name, in planning, where mergekit takes no notice or dies late."""

from copy import deepcopy
from typing import Any

import pytest
import yaml

from merge_core.errors import InputError, MalformedError, RecipeError, UnsupportedError
from merge_core.mergekit import is_mergekit, read_yaml, translate
from merge_core.mergekit.methods import PEERS
from merge_core.recipe import Recipe

TIES: dict[str, Any] = {
    "merge_method": "ties",
    "base_model": "base",
    "models": [
        {"model": "a", "parameters": {"weight": 1, "density": 0.5}},
        {"model": "b", "parameters": {"weight": 2}},
    ],
}
DELLA = {**TIES, "merge_method": "della", "parameters": {"density": 0.5}}
SLICES: dict[str, Any] = {
    "merge_method": "slerp",
    "base_model": "a",
    "parameters": {"t": 0.5},
    "slices": [{"sources": [{"model": "a", "layer_range": [0, 2]}, {"model": "b", "layer_range": [0, 2]}]}],
}


def _changed(config: dict[str, Any], place: tuple[Any, ...], value: object) -> dict[str, Any]:
    changed: Any = deepcopy(config)
    inside = changed
    for step in place[:-1]:
        inside = inside.setdefault(step, {}) if isinstance(inside, dict) else inside[step]
    inside[place[-1]] = value
    return changed


WEIGHT = ("models", 0, "parameters", "weight")
OVERRIDDEN = {"model": "a", "override_architecture": "X"}

BAD = [
    (TIES, ("dtpye",), "bfloat16", "dtpye", "'dtype'"),
    (TIES, ("models", 0, "parameter"), {}, "models[0].parameter", "'parameters'"),
    (TIES, ("models", 0, "parameters", "densty"), 0.5, "models[0].parameters.densty", "'density'"),
    (TIES, ("parameters", "lamda"), 1, "parameters.lamda", "'lambda'"),
    (TIES, ("parameters", "t"), 1, "parameters.t", "one of"),
    (TIES, ("models", 0, "parameters", "normalize"), True, "models[0].parameters.normalize", "one normalize for all"),
    (TIES, WEIGHT, "much", "models[0].parameters.weight", "a number"),
    (TIES, WEIGHT, [{"filter": "mlp", "value": 1}], "models[0].parameters.weight", "no filter"),
    (TIES, WEIGHT, [{"filer": "mlp", "value": 1}], "models[0].parameters.weight[0]", "filter"),
    (TIES, ("models", 0, "parameters"), {}, "models[0].parameters.weight", "has no weight"),
    (TIES, WEIGHT, None, "models[0].parameters.weight", "a number"),
    (TIES, ("parameters", "density"), None, "parameters.density", "a number"),
    (TIES, ("models", 0, "parameters", "density"), 1.5, "models[0].parameters.density", "less than or equal to 1"),
    (TIES, ("parameters", "density"), -0.5, "parameters.density", "greater than or equal to 0"),
    (SLICES, ("parameters", "t"), [0, 1.5], "parameters.t", "less than or equal to 1"),
    (SLICES, ("parameters", "t"), [{"filter": "mlp", "value": 2}, {"value": 0.5}], "parameters.t[0].value", "to 1"),
    (TIES, WEIGHT, [1, "inf"], "models[0].parameters.weight[1]", "a number"),
    (DELLA, ("parameters", "epsilon"), 0.6, "parameters.epsilon", "found 0.6; expected 0 to 0.5"),
    (DELLA, ("models", 1, "parameters", "epsilon"), [0.1, -0.1], "models[1].parameters.epsilon", "found -0.1"),
    (TIES, ("merge_method",), "tise", "merge_method", "'ties'"),
    (TIES, ("merge_method",), 3, "merge_method", "a valid string"),
    (TIES, ("base_model",), None, "base_model", "needs a base"),
    (TIES, ("dtype",), "bfloat61", "dtype", "'bfloat16'"),
    (TIES, ("dtype",), "float64", "dtype", "float"),
    (TIES, ("models",), [], "document", "exactly one"),
    (TIES, ("slices",), SLICES["slices"], "document", "models and slices"),
    (TIES, ("models", 1, "model"), "a", "models[1]", "twice"),
    (TIES, ("models", 1, "model"), "a+b+c", "models[1].model", "path+adapter"),
    (TIES, ("models", 1, "model"), OVERRIDDEN, "models[1].model", "override_architecture"),
    (TIES, ("parameters", "rescale"), True, "parameters.rescale", "rescale"),
    (TIES, ("parameters", "normalize"), [True, False], "parameters.normalize", "gradient"),
    (TIES, ("modules",), {"text": {"models": []}}, "document", "exactly one"),
    (TIES, ("tokenizer",), {"sorce": "union"}, "tokenizer.sorce", "'source'"),
    (SLICES, ("slices", 0, "sources", 0, "layer_range"), [0, 3], "slices[0].sources", "equal lengths"),
    (SLICES, ("slices", 0, "sources", 0, "layer_range"), [0], "slices[0].sources[0].layer_range[1]", "required"),
    (SLICES, ("slices", 0, "sources", 0, "layer_ranges"), [0, 2], "slices[0].sources[0].layer_ranges", "'layer_range'"),
    (SLICES, ("slices", 0, "base_model"), "c", "slices[0].sources", "not among"),
    (SLICES, ("slices", 0, "residual_weight"), 0.5, "slices[0].residual_weight", "unknown key"),
    (SLICES, ("parameters",), {}, "slices[0].parameters.t", "every tensor"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "place", "value", "where", "words"), BAD)
def test_what_is_wrong_is_named(
    config: dict[str, Any], place: tuple[Any, ...], value: object, where: str, words: str
) -> None:
    with pytest.raises(InputError) as refused:
        translate(_changed(config, place, value))
    assert refused.value.where == where
    assert words in str(refused.value)


@pytest.mark.parametrize("density", [-1, 1.5, [0.5, 2]])
def test_a_density_that_is_no_share_is_refused(density: object) -> None:
    with pytest.raises(RecipeError, match=r"density"):
        translate(_changed(TIES, ("models", 0, "parameters", "density"), density))


def test_several_modules_are_refused_and_one_is_not() -> None:
    config = {key: value for key, value in TIES.items() if key != "models"}
    with pytest.raises(UnsupportedError, match="several modules"):
        translate({**config, "modules": {"text": {"models": TIES["models"]}, "vision": {"models": TIES["models"]}}})
    assert translate({**config, "modules": {"default": {"models": TIES["models"]}}}) == translate(TIES)


def test_several_documents_are_one_recipe_with_others_in_it() -> None:
    inner = {**TIES, "name": "mid"}
    outer = {"merge_method": "linear", "models": [{"model": "mid", "parameters": {"weight": 1}}]}
    found = read_yaml(yaml.safe_dump_all([inner, outer]).encode()).recipe
    assert found.ingredients[0].source == translate(TIES).recipe
    assert found.method.title() == "linear"


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ([{**TIES, "name": "x"}, {**TIES, "name": "y"}], "one document is the result"),
        ([{**TIES, "name": "x"}, {**TIES, "name": "x"}], "one name"),
        ([TIES, TIES], "one name"),
        ([{**TIES, "name": "base"}, TIES], "made of each other"),
        ([{**TIES, "name": "a"}, {**TIES, "name": "b"}], "made of each other"),
        ([{**TIES, "name": "x", "dtpye": 1}, TIES], "document 1: dtpye"),
    ],
)
def test_documents_that_make_no_one_result_are_refused(documents: list[Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        translate(documents)


def test_what_has_no_effect_is_said() -> None:
    models = [{"model": "base", "parameters": {"weight": 9}}, *TIES["models"]]
    wish = translate({**TIES, "models": models, "parameters": {"int8_mask": True}})
    assert wish.recipe == translate(TIES).recipe
    assert wish.notes == (
        "models[0].parameters.weight has no effect in ties",
        "parameters.int8_mask has no effect in ties",
    )


def test_a_file_may_repeat_itself_as_yaml_can() -> None:
    text = """
merge_method: ties
base_model: base
models:
- {model: a, parameters: &same {weight: 2, density: 0.5}}
- {model: b, parameters: *same}
- {model: c, parameters: {<<: *same, weight: 3}}
"""
    ingredients = read_yaml(text.encode()).recipe.ingredients
    assert [entry.weight for entry in ingredients] == [2.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "merge_method: &a {<<: *a}",
        "<<: 3",
        "a: &a [" + "1," * 99 + "]\nb: &b [" + "*a," * 99 + "]\nc: &c [" + "*b," * 99 + "]\nd: [" + "*c," * 99 + "]",
    ],
)
def test_a_file_that_repeats_itself_without_end_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        read_yaml(text.encode())


def test_our_recipes_are_not_taken_for_mergekits() -> None:
    recipe = {"method": "linear", "ingredients": [{"source": "a"}]}
    assert not is_mergekit(recipe)
    assert read_yaml(yaml.safe_dump(recipe).encode()).recipe == Recipe.parse(recipe)
    with pytest.raises(RecipeError, match="one document"):
        read_yaml(yaml.safe_dump_all([recipe, recipe]).encode())


@pytest.mark.parametrize("own", [{"base": "b"}, {"models": ["a"]}])
def test_a_recipe_of_ours_with_a_key_of_theirs_stays_ours(own: dict[str, Any]) -> None:
    assert not is_mergekit({"method": "linear", "ingredients": [{"source": "a"}], **own})


def test_a_file_without_its_method_is_told_so() -> None:
    text = yaml.safe_dump({key: value for key, value in TIES.items() if key != "merge_method"})
    with pytest.raises(RecipeError, match="merge_method: a required key is missing"):
        read_yaml(text.encode())


def test_a_mixture_of_experts_is_refused_by_name() -> None:
    experts = [{"source_model": "a", "positive_prompts": ["x"]}]
    text = yaml.safe_dump({"base_model": "b", "gate_mode": "hidden", "experts": experts})
    with pytest.raises(UnsupportedError, match=r"experts: a mixture of experts .mergekit-moe. is not built here"):
        read_yaml(text.encode())


@pytest.mark.parametrize(
    "text", ["merge_method: [", "a: 1\n---\na: &x 1\nb: *y", "merge_method: ties\nmerge_method: linear"]
)
def test_text_that_is_no_yaml_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        read_yaml(text.encode())


@pytest.mark.parametrize("junk", [None, 3, [], {}, "x", [[]], {"a": [{"b": 1}]}, True, 10**400, [None, {"filter": 1}]])
@pytest.mark.parametrize("config", [TIES, SLICES])
def test_junk_in_any_place_is_a_recipe_or_a_named_refusal(config: dict[str, Any], junk: object) -> None:
    for place in _places(config):
        refused = _refusal(_changed(config, place, junk))
        assert refused is None or refused.where
        assert len(str(refused)) < 1000


VALUES = [None, True, -1, 0.5, "1e-3", "x", [], [0, 1], [True, False], {"value": [1, 2]}, float("nan"), 10**60]
EVERY = sorted({name for peer in PEERS.values() for name in (*peer.shared, *peer.each, *peer.idle, "weight")})


@pytest.mark.parametrize("method", PEERS)
def test_any_value_of_any_parameter_is_a_recipe_or_a_named_refusal(method: str) -> None:
    models = [{"model": name, "parameters": {"weight": 1} if PEERS[method].weighted else {}} for name in ("a", "b")]
    config = {"merge_method": method, "base_model": "base", "models": models}
    for place in (("parameters",), ("models", 0, "parameters")):
        for name in EVERY:
            for value in VALUES:
                refused = _refusal(_changed(config, (*place, name), value))
                assert refused is None or refused.where


def _refusal(config: object) -> InputError | None:
    try:
        translate(config)
    except InputError as error:
        return error
    return None


def _places(value: Any) -> list[tuple[Any, ...]]:
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for step, inner in steps for place in [(step,), *((step, *rest) for rest in _places(inner))]]


@pytest.mark.parametrize("substring", ["layers.3", "3.mlp"])
def test_a_filter_with_a_part_of_a_number_is_refused_where_layers_are_numbered_anew(substring: str) -> None:
    config = _changed(SLICES, ("slices", 0, "sources", 0, "layer_range"), [2, 4])
    config = _changed(config, ("slices", 0, "sources", 1, "layer_range"), [2, 4])
    config["parameters"]["t"] = [{"filter": substring, "value": 1}, {"value": 0}]
    with pytest.raises(UnsupportedError, match="a part of a name that may be a layer's") as refused:
        read_yaml(yaml.safe_dump(config).encode())
    assert str(refused.value.where).endswith("parameters.t")


@pytest.mark.parametrize("method", ["model_stock", "nearswap", "arcee_fusion", "nuslerp", "multislerp"])
def test_a_base_alone_is_refused_by_methods_that_need_another_model(method: str) -> None:
    parameters = {"t": 0.5} if method == "nearswap" else {}
    config = {"merge_method": method, "base_model": "base", "models": [{"model": "base"}], "parameters": parameters}
    with pytest.raises(RecipeError, match="needs a model beside its base") as refused:
        translate(config)
    assert (refused.value.where, refused.value.found) == ("models", "'base' alone")
