"""Exceptions for single tensors, the output's dtype, and tensors that only some inputs have."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merge_core.errors import RecipeError
from tests.merge_core.building import FLOATS, built, mix, planned, raw, write_adapter, write_model

NAMES = ("attn.q.weight", "attn.k.weight", "mlp.up.weight", "norm.weight")


def values(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randint(-8, 9, (4, 3), generator=generator) / 8 for name in NAMES}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "m0", "m1")):
        write_model(tmp_path / name, values(seed))
    return tmp_path


def with_rules(*rules: dict[str, Any], method: str = "linear") -> dict[str, Any]:
    return mix("m0", "m1", base="base", method=method, tensors=list(rules))


BASE, M0, M1 = values(0), values(1), values(2)


def test_a_rule_gives_other_weights_to_the_tensors_it_matches(root: Path) -> None:
    found = built(root, with_rules({"match": "attn.*", "weights": [1, 3]}))
    for name, tensor in found.items():
        first, second = (0.25, 0.75) if name.startswith("attn") else (0.5, 0.5)
        assert torch.equal(tensor, first * M0[name] + second * M1[name])


def test_the_first_rule_that_matches_wins(root: Path) -> None:
    rules = [{"match": "attn.q.*", "take": "base"}, {"match": "attn.*", "take": 1}, {"match": "*", "take": 0}]
    found = built(root, with_rules(*rules, method="task_arithmetic"))
    expected = {"attn.q.weight": BASE, "attn.k.weight": M1, "mlp.up.weight": M0, "norm.weight": M0}
    assert all(raw(found[name]) == raw(tensors[name]) for name, tensors in expected.items())


def test_a_rule_is_case_sensitive_and_matches_whole_names(root: Path) -> None:
    plain = built(root, with_rules())
    rules = [{"match": pattern, "take": "base"} for pattern in ("Attn.*", "attn", "q.weight", "norm")]
    assert {name: raw(t) for name, t in built(root, with_rules(*rules)).items()} == {
        n: raw(t) for n, t in plain.items()
    }


def test_a_rule_that_zeroes_an_ingredient_forgets_it_there(root: Path) -> None:
    found = built(root, with_rules({"match": "mlp.*", "weights": [1, 0]}, method="task_arithmetic"))
    assert torch.equal(found["mlp.up.weight"], M0["mlp.up.weight"])


def test_weights_of_a_rule_that_cannot_be_normalised_name_the_tensor(root: Path) -> None:
    with pytest.raises(RecipeError, match=r"tensor 'norm\.weight': weights cannot be normalised"):
        planned(root, with_rules({"match": "norm.*", "weights": [1, -1]}))


@pytest.mark.parametrize("take", [0, 1])
def test_taking_from_an_adapter_gives_the_base_with_its_delta_alone(root: Path, take: int) -> None:
    a, b = torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([[0.5], [0.25], [0.0], [1.0]])
    write_adapter(root / "lora", {"mlp.up": (a, b)})
    names = ("lora", "m0") if take == 0 else ("m0", "lora")
    recipe = mix(*names, base="base", method="task_arithmetic", tensors=[{"match": "*", "take": take}])
    found = built(root, recipe)
    assert torch.equal(found["mlp.up.weight"], BASE["mlp.up.weight"] + b @ a)
    assert raw(found["norm.weight"]) == raw(BASE["norm.weight"])


def test_taking_from_an_adapter_of_another_shape_is_refused(root: Path) -> None:
    write_adapter(root / "lora", {"mlp.up": (torch.ones(1, 4), torch.ones(3, 1))})
    for rules in ([], [{"match": "*", "take": 0}]):
        with pytest.raises(RecipeError, match=r"tensor 'mlp\.up\.weight': shapes differ; found \[3, 4\] in 'lora'"):
            planned(root, mix("lora", base="base", method="task_arithmetic", tensors=rules))


def test_taking_from_a_nested_recipe_gives_what_it_makes(root: Path) -> None:
    inner = mix("m0", "m1", method="linear")
    recipe = {"base": "base", "method": "task_arithmetic", "ingredients": [{"source": inner}]}
    found = built(root, recipe | {"tensors": [{"match": "*", "take": 0}]})
    assert {name: raw(tensor) for name, tensor in found.items()} == {n: raw(t) for n, t in built(root, inner).items()}


@pytest.mark.parametrize("rules", [[], [{"match": "*", "take": 0}]])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_an_adapter_on_a_tensor_that_is_not_merged_is_refused(
    dtype: torch.dtype, rules: list[dict[str, object]], tmp_path: Path
) -> None:
    write_model(tmp_path / "base", {"q.weight": torch.ones(4, 3).to(dtype)})
    write_adapter(tmp_path / "lora", {"q": (torch.ones(1, 3), torch.ones(4, 1))})
    with pytest.raises(RecipeError, match=r"tensor 'q\.weight': "):
        planned(tmp_path, mix("lora", base="base", method="task_arithmetic", tensors=rules))


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("label", ["float32", "float16", "bfloat16"])
def test_the_output_has_the_dtype_asked_for_and_is_rounded_once(
    source: torch.dtype, label: str, tmp_path: Path
) -> None:
    """A sum that bfloat16 and float16 cannot hold: rounded to the input's dtype first it would be another."""
    first, second = torch.tensor([1.0, 3.0]).to(source), torch.tensor([2.0**-8, 2.0**-7]).to(source)
    ids, whole = torch.arange(3), torch.tensor([1.5, 2.5]).to(source)
    for name, tensor in (("m0", first), ("m1", second)):
        write_model(tmp_path / name, {"w": tensor, "kept": whole, "ids": ids})
    recipe = mix("m0", "m1", weights=(1, 1), method={"name": "linear", "normalize": False}, dtype=label)
    found = built(tmp_path, recipe | {"tensors": [{"match": "kept", "take": 1}]})
    dtype = getattr(torch, label)
    assert raw(found["w"]) == raw((first.double() + second.double()).to(dtype))
    assert raw(found["kept"]) == raw(whole.to(dtype))
    assert raw(found["ids"]) == raw(ids)


def test_a_nested_recipe_is_not_rounded_to_its_own_dtype(tmp_path: Path) -> None:
    third = torch.tensor([1.0, 2.0, 5.0]) / 3
    write_model(tmp_path / "m0", {"w": third})
    inner = mix("m0", method="linear", dtype="bfloat16")
    found = built(tmp_path, {"method": "linear", "dtype": "float32", "ingredients": [{"source": inner}]})
    assert raw(found["w"]) == raw(third)


def test_a_tensor_larger_than_a_shard_has_a_shard_of_its_own(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(4), "big": torch.ones(1000), "c": torch.ones(4)}
    write_model(tmp_path / "m0", tensors)
    made = planned(tmp_path, mix("m0", method="linear", output={"max_shard_bytes": 40}))
    assert [[slot.spec.name for slot in shard.slots] for shard in made.shards] == [["a"], ["big"], ["c"]]
    found = built(tmp_path, mix("m0", method="linear", output={"max_shard_bytes": 40}))
    assert {name: raw(tensor) for name, tensor in found.items()} == {name: raw(t) for name, t in tensors.items()}


def test_integers_that_only_the_ingredients_have_are_kept_where_equal(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"w": torch.zeros(2)})
    for name in ("m0", "m1"):
        write_model(tmp_path / name, {"w": torch.ones(2), "position_ids": torch.arange(4)})
    for method in ("linear", "task_arithmetic"):
        assert torch.equal(
            built(tmp_path, mix("m0", "m1", base="base", method=method))["position_ids"], torch.arange(4)
        )


@pytest.mark.parametrize("method", ["linear", "task_arithmetic"])
def test_a_head_that_one_ingredient_brings_is_kept_as_it_is(method: str, tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"w": torch.zeros(2)})
    write_model(tmp_path / "m0", {"w": torch.ones(2), "head.weight": torch.full((3,), 0.1)})
    write_model(tmp_path / "m1", {"w": torch.ones(2)})
    recipe = mix("m0", "m1", base="base", method=method)
    assert raw(built(tmp_path, recipe)["head.weight"]) == raw(torch.full((3,), 0.1))
    assert any("'head.weight' is only in 'm0'" in note for note in planned(tmp_path, recipe).warnings)
