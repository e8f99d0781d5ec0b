"""Models put together from runs of layers: frankenmerges, and merges of unlike depths."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

from merge_core.errors import RecipeError, StockpotError
from merge_core.execute import execute
from merge_core.formats.patch import METADATA, patch_metadata
from merge_core.recipe import Recipe
from tests.merge_core.building import built, mix, planned, write_adapter, write_model

KINDS = ["full_attention", "sliding_attention"]


def _model(folder: Path, layers: int, value: float) -> str:
    """A model whose layer k holds value + k, its embeddings `value` and its norm and head −`value`."""
    tensors = {f"model.layers.{k}.mlp.weight": torch.full((2, 2), value + k) for k in range(layers)}
    ends = {"model.norm.weight": -value, "lm_head.weight": -value, "model.embed_tokens.weight": value}
    source = write_model(folder, tensors | {name: torch.full((3, 2), number) for name, number in ends.items()})
    kinds = [KINDS[k % 2] for k in range(layers)]
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": layers, "layer_types": kinds}))
    return source


@pytest.fixture
def root(tmp_path: Path) -> Path:
    _model(tmp_path / "a", 4, 100.0)
    _model(tmp_path / "b", 6, 200.0)
    return tmp_path


def _stack(*parts: tuple[object, int, int]) -> dict[str, object]:
    return {"stack": [{"source": source, "layers": [first, stop]} for source, first, stop in parts]}


def _recipe(source: object, **more: object) -> dict[str, object]:
    return {"method": "passthrough", "ingredients": [{"source": source}], **more}


def _layers(tensors: dict[str, torch.Tensor]) -> list[float]:
    count = sum(name.startswith("model.layers.") for name in tensors)
    return [tensors[f"model.layers.{k}.mlp.weight"][0, 0].item() for k in range(count)]


def test_runs_of_layers_are_copied_in_order_and_renumbered(root: Path) -> None:
    found = built(root, _recipe(_stack(("a", 0, 3), ("b", 1, 3), ("a", 2, 4))))
    assert _layers(found) == [100, 101, 102, 201, 202, 102, 103]


def test_embeddings_are_the_first_parts_and_the_head_the_lasts(root: Path) -> None:
    found = built(root, _recipe(_stack(("a", 0, 2), ("b", 2, 6))))
    assert found["model.embed_tokens.weight"][0, 0] == 100
    assert found["model.norm.weight"][0, 0] == -200
    assert found["lm_head.weight"][0, 0] == -200


def test_the_config_counts_the_layers_and_moves_their_kinds(root: Path) -> None:
    plan = planned(root, _recipe(_stack(("a", 1, 3), ("a", 1, 4))))
    config = json.loads(plan.side_files["config.json"])
    assert config["num_hidden_layers"] == 5
    assert config["layer_types"] == [KINDS[k % 2] for k in (1, 2, 1, 2, 3)]


def test_only_the_layers_asked_for_are_merged(root: Path) -> None:
    merged = {**mix("a", "b"), "method": "linear"}
    found = built(root, _recipe(_stack((merged, 1, 3), ("b", 4, 6))))
    assert _layers(found) == [151, 152, 204, 205]


def test_a_shift_merges_unlike_layers(root: Path) -> None:
    ingredients = [{"source": "a"}, {"source": "b", "layer_shift": 2}]
    found = built(root, {"method": "linear", "ingredients": ingredients})
    assert _layers(found) == [(100 + k + 202 + k) / 2 for k in range(4)]


def test_a_gradient_in_a_part_runs_over_that_part(root: Path) -> None:
    rule = {"match": "*", "weights": [{"gradient": [1, 0]}, {"gradient": [0, 1]}]}
    merged = {**mix("a", "b"), "method": "linear", "tensors": [rule]}
    assert _layers(built(root, _recipe(_stack((merged, 1, 4))))) == [101, 152, 203]


@pytest.mark.parametrize(
    ("parts", "where", "found"),
    [
        ([("a", 0, 5)], "stack[0].layers", "layer 4"),
        ([("a", 0, 1), ("b", 4, 9)], "stack[1].layers", "layer 6"),
        ([("a", 2, 2)], "ingredients[0].source.stack[0].layers", "[2, 2]"),
        ([("a", -1, 2)], "ingredients[0].source.stack[0].layers[0]", "-1"),
        ([], "ingredients[0].source.stack", "0 entries"),
    ],
)
def test_layers_that_are_not_there_are_refused(
    root: Path, parts: list[tuple[str, int, int]], where: str, found: str
) -> None:
    with pytest.raises(RecipeError) as refused:
        planned(root, _recipe(_stack(*parts)))
    assert (refused.value.where, refused.value.found) == (where, found)


def test_a_misspelt_field_of_a_stack_is_named(root: Path) -> None:
    with pytest.raises(RecipeError, match="'layers'") as refused:
        planned(root, _recipe({"stack": [{"source": "a", "layer": [0, 1]}]}))
    assert refused.value.where == "ingredients[0].source.stack[0].layer"


def test_sources_in_stacks_are_found_and_renamed() -> None:
    recipe = Recipe.parse(_recipe(_stack(("a", 0, 1), ({**mix("b", "c"), "method": "linear", "base": "o"}, 0, 1))))
    assert recipe.sources() == ["a", "o", "b", "c"]
    assert recipe.with_sources({"b": "x"}).sources() == ["a", "o", "x", "c"]
    assert list(recipe.places())[1] == ("ingredients[0].source.stack[1].source.base", "o")
    assert Recipe.parse(json.loads(recipe.canonical())) == recipe


def test_stacks_in_stacks_end_somewhere(root: Path) -> None:
    source: object = "a"
    for _ in range(9):
        source = _stack((source, 0, 1))
    with pytest.raises(StockpotError, match="too many recipes"):
        planned(root, _recipe(source))


def test_transformers_loads_a_stack_with_every_tensor(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
    plan = planned(tmp_path, _recipe(_stack(("llama", 0, 2), ("llama", 1, 3))))
    execute(plan, tmp_path / "out", durable=False)
    loaded, info = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert loaded.config.num_hidden_layers == 4
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]


def _deltas(folder: Path, kind: str) -> str:
    """A delta of layer 3 of the model 'a', low-rank or as a patch."""
    if kind == "patch":
        folder.mkdir()
        name = "model.layers.3.mlp.weight"
        tensors = {f"{name}.indices": torch.tensor([1], dtype=torch.int32), f"{name}.values": torch.tensor([0.5])}
        save_file(tensors, folder / "patch.safetensors", metadata={METADATA: patch_metadata({name: (2, 2)})})
        return folder.name
    return write_adapter(folder, {"model.layers.3.mlp": (torch.ones(1, 2), torch.ones(2, 1))})


@pytest.mark.parametrize("kind", ["lora", "patch"])
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_delta_that_is_shifted_past_the_last_layer_is_refused(root: Path, kind: str, is_nested: bool) -> None:
    source = _deltas(root / kind, kind)
    recipe: dict[str, object] = {"base": "a", "method": "task_arithmetic"}
    recipe["ingredients"] = [{"source": source, "layer_shift": -1}]
    outer = {"method": "linear", "ingredients": [{"source": recipe}]} if is_nested else recipe
    message = rf"tensor 'model\.layers\.4\.mlp\.weight': the base has no such tensor.*delta in '{kind}'.*take: base\}}"
    with pytest.raises(RecipeError, match=message):
        planned(root, outer)
    with pytest.raises(RecipeError, match=message):
        planned(root, recipe | {"tensors": [{"match": "*", "take": 0}]})
    left_out = built(root, recipe | {"tensors": [{"match": "*.layers.4.*", "take": "base"}]})
    assert _layers(left_out) == [100, 101, 102, 103]


def test_two_deltas_that_are_shifted_past_the_last_layer_are_refused(root: Path) -> None:
    ingredients = [{"source": _deltas(root / name, "lora"), "layer_shift": -1} for name in ("one", "two")]
    with pytest.raises(RecipeError, match="no such tensor to put a delta on; found a low_rank delta in 'one'"):
        planned(root, {"base": "a", "method": "task_arithmetic", "ingredients": ingredients})


@pytest.mark.parametrize("base", ["a", None])
@pytest.mark.parametrize("count", [1, 2])
def test_layers_beyond_those_that_the_config_counts_are_refused(root: Path, base: str | None, count: int) -> None:
    _model(root / "c", 6, 300.0)
    recipe = {"method": "linear", "base": base, **mix(*["a", "b", "c"][: count + 1])}
    frame = "the base 'a'" if base else "'a'"
    with pytest.raises(RecipeError, match=rf"'model\.layers\.4\.mlp\.weight': {frame} has no such layer") as refused:
        planned(root, recipe)
    rule = "a rule in `tensors` such as {match: 'model.layers.4.*', take: base}"
    hint = rule if base else "a stack of the layers that are meant, such as layers: [0, 4]"
    assert refused.value.found == "layer 4 in 'b'"
    assert refused.value.expected == f"layers 0 to 3 as there, or {hint}"
    kept = planned(root, recipe | {"tensors": [{"match": "model.layers.[45].*", "take": 1}]})
    assert "model.layers.5.mlp.weight" in kept.tensors


def test_the_layers_of_a_longer_model_are_left_out_by_a_rule(root: Path) -> None:
    recipe = mix("b", base="a", method="linear", tensors=[{"match": "model.layers.[45].*", "take": "base"}])
    assert _layers(built(root, recipe)) == [200, 201, 202, 203]


def test_the_layers_of_a_longer_model_are_left_out_by_a_stack(root: Path) -> None:
    recipe = {"method": "linear", "ingredients": [{"source": "a"}, {"source": _stack(("b", 0, 4))}]}
    assert _layers(built(root, recipe)) == [150, 151, 152, 153]


def test_a_full_model_that_is_shifted_past_the_last_layer_is_refused(root: Path) -> None:
    ingredients = [{"source": "a"}, {"source": "b", "layer_shift": 1}]
    with pytest.raises(RecipeError, match="found layer 4 in 'b'; expected layers 0 to 3"):
        planned(root, {"method": "linear", "ingredients": ingredients})
