"""Rules for tensors by name: weights, parameters and scale by layer, each from the first rule that says it."""

from pathlib import Path

import pytest
import torch

from merge_core.errors import RecipeError
from merge_core.layers import Depths, layer_of, moved
from merge_core.planning.rules import Rules
from merge_core.recipe import Recipe
from tests.merge_core.building import built, mix, planned, write_model

PARTS = ("mlp", "attn")
NAMES = ["model.embed_tokens.weight", *[f"model.layers.{i}.{part}.weight" for i in range(5) for part in PARTS]]


def _rules(*tensors: dict[str, object], **recipe: object) -> Rules:
    return Rules(Recipe.parse({"base": "o", **mix("a", "b"), "method": "ties", "tensors": tensors} | recipe), NAMES)


def test_a_gradient_runs_through_the_layers_and_gives_the_rest_its_first_value() -> None:
    rules = _rules({"match": "*", "weights": [{"gradient": [0, 1, 0.5]}, 3]})
    assert [rules.weights(f"model.layers.{i}.mlp.weight") for i in range(5)] == [
        (0, 3), (0.5, 3), (1, 3), (0.75, 3), (0.5, 3)
    ]  # fmt: skip
    assert rules.weights("model.embed_tokens.weight") == (0, 3)


def test_an_only_layer_is_the_last() -> None:
    assert Depths(["h.0.w"]).share("h.0.w") == 1.0
    assert Depths(["h.3.w", "h.4.w"]).share("h.4.w") == 1.0


def test_each_weight_and_parameter_comes_from_the_first_rule_that_says_it() -> None:
    rules = _rules(
        {"match": "*.mlp.*", "weights": [None, 5], "parameters": {"density": 0.25}},
        {"match": "*", "weights": [7, 8], "scale": {"gradient": [2, 4]}},
    )
    assert rules.weights("model.layers.0.mlp.weight") == (7, 5)
    assert rules.weights("model.layers.0.attn.weight") == (7, 8)
    assert rules.method("model.layers.1.mlp.weight").model_dump()["density"] == 0.25
    assert rules.method("model.layers.1.attn.weight").model_dump()["density"] == 1.0
    assert rules.scale("model.layers.4.mlp.weight") == 4
    assert rules.method("model.layers.0.mlp.weight") is rules.method("model.layers.1.mlp.weight")


@pytest.mark.parametrize(
    ("rule", "where"),
    [
        ({"parameters": {"densty": 0.5}}, "tensors[0].parameters.densty"),
        ({"parameters": {"density": -1}}, "tensors[0].parameters.density"),
        ({"parameters": {"density": {"gradient": [0.5, 2]}}}, "tensors[0].parameters.density"),
        ({"weights": [1]}, "tensors[0].weights"),
        ({"weights": [{"gradient": []}, 1]}, "tensors[0].weights[0].gradient"),
        ({"weights": [1, 1], "take": 0}, "tensors[0]"),
        ({"take": 10**4000}, "tensors[0].take"),
    ],
)
def test_a_rule_that_cannot_hold_is_refused_by_its_field(rule: dict[str, object], where: str) -> None:
    with pytest.raises(RecipeError) as refused:
        _rules({"match": "*", **rule})
    assert refused.value.where == where


def test_parameters_by_layer_are_what_the_layers_are_merged_with(tmp_path: Path) -> None:
    left = {name: torch.full((4,), 1.0) for name in NAMES}
    right = {name: torch.full((4,), 3.0) for name in NAMES}
    write_model(tmp_path / "a", left)
    write_model(tmp_path / "b", right)
    rule = {"match": "*.attn.*", "parameters": {"t": {"gradient": [0, 1]}}}
    found = built(tmp_path, mix("a", "b", method={"name": "slerp", "t": 0.5}, tensors=[rule]))
    assert [found[f"model.layers.{i}.attn.weight"][0].item() for i in range(5)] == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert found["model.layers.3.mlp.weight"][0].item() == 2.0
    assert found["model.embed_tokens.weight"][0].item() == 2.0


def test_a_rule_that_applies_to_nothing_is_noted(tmp_path: Path) -> None:
    write_model(tmp_path / "a", {"x.weight": torch.ones(2)})
    plan = planned(tmp_path, mix("a", method="linear", tensors=[{"match": "*mlp*", "weights": [2]}]))
    assert plan.warnings == ("rule tensors[0], match '*mlp*', applies to no tensor",)


@pytest.mark.parametrize(
    ("name", "stack", "index"),
    [
        ("model.layers.11.mlp.experts.3.w1", "model.layers", 11),
        ("h.0.attn.c_attn.weight", "h", 0),
        ("bert.encoder.layer.2.output.dense.bias", "bert.encoder.layer", 2),
        ("decoder.block.7.layer.1.wi", "decoder.block", 7),
    ],
)
def test_a_layer_is_read_off_the_name(name: str, stack: str, index: int) -> None:
    spot = layer_of(name)
    assert spot is not None
    assert (spot.stack, spot.index) == (stack, index)
    assert layer_of(moved(name, 40)).index == 40  # type: ignore[union-attr]


def test_numbered_modules_that_are_no_layers_have_no_layer() -> None:
    assert layer_of("classifier.0.weight") is None
    assert layer_of("model.embed_tokens.weight") is None


def test_lines_is_a_gradient_of_scale() -> None:
    """LiNeS: layer ℓ of L is scaled by a + b·ℓ/(L−1). Wang et al. 2025, https://arxiv.org/abs/2410.17146."""
    a, b = 0.25, 0.5
    rules = _rules({"match": "*", "scale": {"gradient": [a, a + b]}})
    scales = [rules.scale(f"model.layers.{layer}.mlp.weight") for layer in range(5)]
    assert scales == [a + b * layer / 4 for layer in range(5)]
    assert rules.scale("model.embed_tokens.weight") == a
