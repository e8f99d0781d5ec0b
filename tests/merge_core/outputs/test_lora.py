"""Adapters as an output: what PEFT makes of them is what the same recipe gives as a checkpoint."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForCausalLM

from merge_core.errors import CapacityError, FileError, RecipeError
from merge_core.outputs.lora_sink import read_errors
from tests.merge_core.building import built, file_hashes, mix, planned, relative_rms, write_adapter, write_model
from tests.merge_core.making import BERT, SMALL, Convolutions, bert, gpt2, llama
from tests.merge_core.outputs.loading import adapters, as_peft_merges, config_of, pretrained, tuned, write

SUM = {"base": "base", "method": "task_arithmetic", "scale": 1.3}
WEIGHTS = (0.7, -0.4, 1.1)


def lora(rank: int | None = None) -> dict[str, Any]:
    return {"output": {"kind": "lora", "rank": rank}}


def tied() -> torch.nn.Module:
    config = transformers.LlamaConfig(**SMALL, intermediate_size=24, tie_word_embeddings=True)
    return transformers.LlamaForCausalLM(config)


MODELS: list[tuple[Any, Any, dict[str, Any]]] = [
    (llama, AutoModelForCausalLM, {"target_modules": ["q_proj", "down_proj", "lm_head"]}),
    (llama, AutoModelForCausalLM, {"target_modules": ["q_proj"], "modules_to_save": ["norm"], "use_rslora": True}),
    (llama, AutoModelForCausalLM, {"target_modules": ["q_proj"], "rank_pattern": {"layers.1.self_attn.q_proj": 5}}),
    (gpt2, AutoModelForCausalLM, {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
    (gpt2, AutoModelForCausalLM, {"target_modules": ["c_attn", "wte", "wpe"], "fan_in_fan_out": True}),
    (bert, AutoModel, {"target_modules": ["query", "dense"], "lora_bias": True}),
    (bert, AutoModel, {"target_modules": ["query", "word_embeddings"], "bias": "all"}),
    (tied, AutoModelForCausalLM, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
]


@pytest.mark.parametrize(
    ("make", "kind", "config"), MODELS, ids=lambda value: getattr(value, "__name__", str(value)[:50])
)
def test_peft_makes_the_checkpoint_of_an_exact_sum(
    make: Any, kind: Any, config: dict[str, Any], tmp_path: Path
) -> None:
    names = adapters(tmp_path, make, 2, r=3, **config)
    recipe = mix(*names, weights=WEIGHTS[:2], **SUM)
    folder = write(tmp_path, recipe | lora())
    found, wanted = as_peft_merges(pretrained(tmp_path, kind), folder), built(tmp_path, recipe)
    assert wanted.keys() <= found.keys()
    assert all(relative_rms(found[name], tensor) < 2e-7 for name, tensor in wanted.items())
    assert set(read_errors(folder).values()) == {0.0}
    again = built(tmp_path, mix("out", base="base", method="passthrough"))
    assert all(relative_rms(again[name], tensor) < 2e-7 for name, tensor in wanted.items())
    if make is tied:
        assert torch.equal(found["lm_head.weight"], found["model.embed_tokens.weight"])


@pytest.mark.parametrize("method", ["knots", "tsv_m", "iso_c"])
@pytest.mark.parametrize("shape", [(3, 2), (2, 3), (8, 2), (2, 8)])
def test_factors_of_more_rank_than_a_matrix_has_come_out_in_its_rank(
    method: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    rows, columns = shape
    generator = torch.Generator().manual_seed(0)
    write_model(tmp_path / "base", {"layer.weight": torch.randn(shape, generator=generator)})
    for name in ("a", "b"):
        factors = torch.randn(2, columns, generator=generator), torch.randn(rows, 2, generator=generator)
        write_adapter(tmp_path / name, {"layer": factors})
    recipe = mix("a", "b", base="base", method=method)
    write(tmp_path, recipe | lora())
    again, wanted = built(tmp_path, mix("out", base="base", method="passthrough")), built(tmp_path, recipe)
    assert relative_rms(again["layer.weight"], wanted["layer.weight"]) < 1e-6


@pytest.mark.parametrize("rank", [None, 4])
def test_convolutions_have_factors_of_their_own(rank: int | None, tmp_path: Path) -> None:
    names = adapters(tmp_path, Convolutions, 2, r=3, target_modules=["one", "two", "three", "point"], bias="all")
    recipe = mix(*names, weights=WEIGHTS[:2], **SUM)
    folder = write(tmp_path, recipe | lora(rank))
    base = Convolutions()
    base.load_state_dict(load_file(tmp_path / "base" / "model.safetensors"))
    found, wanted, errors = as_peft_merges(base, folder), built(tmp_path, recipe), read_errors(folder)
    before = load_file(tmp_path / "base" / "model.safetensors")
    for name, tensor in wanted.items():
        lost = relative_rms(found[name] - before[name], tensor - before[name])
        assert lost == pytest.approx(errors.get(name, 0.0), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("method", ["task_arithmetic", "linear", "selma", {"name": "linear", "normalize": False}])
def test_every_linear_method_joins_factors_where_the_base_keeps_its_share(method: object, tmp_path: Path) -> None:
    names = adapters(tmp_path, llama, 3, r=2, target_modules=["v_proj"])
    recipe = mix(*names, weights=(0.5, 0.75, -0.25), base="base", method=method)
    folder = write(tmp_path, recipe | lora())
    found, wanted = as_peft_merges(pretrained(tmp_path), folder), built(tmp_path, recipe)
    assert all(relative_rms(found[name], tensor) < 2e-7 for name, tensor in wanted.items())
    assert config_of(folder)["r"] == 6


@pytest.mark.parametrize(("make", "kind"), [(llama, AutoModelForCausalLM), (gpt2, AutoModelForCausalLM)])
@pytest.mark.parametrize("method", ["task_arithmetic", {"name": "ties", "density": 0.5, "scope": "model"}, "linear"])
def test_a_merge_of_fine_tunes_is_cut_to_the_rank_with_the_least_error(
    make: Any, kind: Any, method: object, tmp_path: Path
) -> None:
    """Everything that is not a matrix comes back as it is in the checkpoint."""
    recipe = mix(*tuned(tmp_path, make, 2), weights=(0.5, 0.5), base="base", method=method)
    folder = write(tmp_path, recipe | lora(rank=5))
    found, wanted, errors = (
        as_peft_merges(pretrained(tmp_path, kind), folder),
        built(tmp_path, recipe),
        read_errors(folder),
    )
    before = load_file(tmp_path / "base" / "model.safetensors")
    for name, tensor in wanted.items():
        delta = tensor.double() - before[name].double()
        if name in errors:
            sigma = torch.linalg.svdvals(delta)
            best = float(sigma[5:].norm() / sigma.norm())
            assert errors[name] == pytest.approx(best, rel=1e-5)
            assert relative_rms(found[name].double() - before[name].double(), delta) == pytest.approx(best, rel=1e-4)
        else:
            assert torch.equal(found[name], tensor), name
    assert len(errors) >= 8


def test_factors_that_do_not_fit_are_cut_without_their_product(tmp_path: Path) -> None:
    names = adapters(tmp_path, llama, 3, r=3, target_modules=["q_proj", "down_proj"])
    recipe = mix(*names, weights=WEIGHTS, **SUM)
    folder = write(tmp_path, recipe | lora(rank=4))
    plan = planned(tmp_path, recipe | lora(rank=4))
    assert {row["factors"] for row in plan.describe()["tensors"]} == {"shortened"}
    wanted, before = built(tmp_path, recipe), load_file(tmp_path / "base" / "model.safetensors")
    found = as_peft_merges(pretrained(tmp_path), folder)
    for name, error in read_errors(folder).items():
        sigma = torch.linalg.svdvals((wanted[name] - before[name]).double())
        assert error == pytest.approx(float(sigma[4:].norm() / sigma.norm()), rel=1e-4)
        lost = relative_rms(found[name] - before[name], wanted[name] - before[name])
        assert lost == pytest.approx(error, rel=1e-4)


def test_a_rank_that_suffices_joins_and_says_that_it_is_exact(tmp_path: Path) -> None:
    names = adapters(tmp_path, llama, 2, r=3, target_modules=["q_proj"])
    plan = planned(tmp_path, mix(*names, **SUM) | lora(rank=6))
    assert {(row["factors"], row["exact"]) for row in plan.describe()["tensors"]} == {("joined", True)}
    assert len(plan.describe()["tensors"]) == 4, "what no input touches costs nothing"


def test_a_fine_tune_repeats_what_it_froze_and_that_costs_nothing(tmp_path: Path) -> None:
    tuned(tmp_path, llama, 0)
    base = load_file(tmp_path / "base" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    write_model(tmp_path / "m", base | {name: base[name] + 1})
    plan = planned(tmp_path, mix("m", base="base", method="passthrough") | lora(rank=1))
    assert [row["name"] for row in plan.describe()["tensors"]] == [
        f"base_model.model.{name.removesuffix('.weight')}.lora_{part}.weight" for part in "AB"
    ]


@pytest.mark.parametrize("rank", [None, 3])
def test_the_bytes_do_not_depend_on_threads(rank: int | None, tmp_path: Path) -> None:
    names = adapters(tmp_path, bert, 2, r=2, target_modules=["query", "dense"], bias="all")
    recipe = mix(*names, **SUM) | lora(rank)
    hashes = [file_hashes(write(tmp_path, recipe, f"out{threads}", threads)) for threads in (1, 2, 4)]
    assert hashes[0] == hashes[1] == hashes[2]
    whole = mix(names[0], base="base", method={"name": "ties", "density": 0.5}) | lora(2)
    hashes = [file_hashes(write(tmp_path, whole, f"whole{threads}", threads)) for threads in (1, 2, 4)]
    assert hashes[0] == hashes[1] == hashes[2]


def toy(root: Path, **tensors: torch.Tensor) -> None:
    """A base of zeros, and a fine-tune with these values."""
    named = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    write_model(root / "base", {name: torch.zeros_like(tensor) for name, tensor in named.items()})
    write_model(root / "m", named)


REFUSED: list[tuple[dict[str, torch.Tensor], dict[str, Any], str]] = [
    ({"a__weight": torch.ones(4, 4)}, lora(), r"tensor 'a.weight': .*not of low rank.*output\.rank"),
    ({"weight": torch.ones(4, 4)}, lora(2), r"tensor 'weight': .*cannot hold.*outside of all modules"),
    ({"a__b__weight": torch.ones(4, 4), "a__scale": torch.ones(3)}, lora(2), r"tensor 'a.scale': .*modules inside"),
    ({"a__weight": torch.ones(4, 4)}, lora(2) | {"dtype": "bfloat16"}, r"dtype: .*expected same"),
    ({"a__weight": torch.ones(4, 4)}, lora(2) | {"base": None, "method": "linear"}, r"base: .*differs from the base"),
]


@pytest.mark.parametrize(("tensors", "wish", "message"), REFUSED)
def test_what_no_adapter_can_hold_is_refused_in_planning(
    tensors: dict[str, torch.Tensor], wish: dict[str, Any], message: str, tmp_path: Path
) -> None:
    toy(tmp_path, **tensors)
    with pytest.raises(RecipeError, match=message):
        planned(tmp_path, mix("m", base="base", method="passthrough") | wish)


@pytest.mark.parametrize("kind", ["checkpoint", "patch", "dense"])
def test_a_rank_is_an_adapters_alone(kind: str, tmp_path: Path) -> None:
    toy(tmp_path, a__weight=torch.ones(2, 2))
    with pytest.raises(RecipeError, match=r"output\.rank: only an adapter has a rank; found 3"):
        planned(tmp_path, mix("m", base="base", method="linear", output={"kind": kind, "rank": 3}))


def test_a_matrix_that_does_not_fit_in_memory_is_refused_in_planning(tmp_path: Path) -> None:
    toy(tmp_path, a__weight=torch.ones(64, 48))
    recipe = mix("m", base="base", method="task_arithmetic") | lora(4)
    need = planned(tmp_path, recipe).memory_bytes
    assert need > 64 * 48 * (4 + 8 + 8)
    with pytest.raises(CapacityError, match=r"tensor 'a.weight': task_arithmetic needs more"):
        planned(tmp_path, recipe, need // 2)


def test_a_module_whose_name_ends_like_anothers_is_targeted_alone(tmp_path: Path) -> None:
    """PEFT takes the ends of names for matches, so the list becomes an expression."""

    class Inner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = torch.nn.Linear(4, 4)

    class Outer(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = torch.nn.Linear(4, 4)
            self.inner = Inner()

    base = Outer()
    write_model(tmp_path / "base", base.state_dict())
    write_adapter(tmp_path / "a", {"q": (torch.ones(1, 4), torch.ones(4, 1))})
    folder = write(tmp_path, mix("a", base="base", method="task_arithmetic") | lora())
    assert config_of(folder)["target_modules"] == "q"
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    found = as_peft_merges(base, folder)
    assert torch.equal(found["q.weight"], before["q.weight"] + 1)
    assert torch.equal(found["inner.q.weight"], before["inner.q.weight"])


def test_a_new_head_goes_along_as_a_copy(tmp_path: Path) -> None:
    kind = transformers.BertForSequenceClassification
    torch.manual_seed(0)
    model = kind(transformers.BertConfig(**BERT, num_labels=3))
    model.save_pretrained(tmp_path / "m")
    state = load_file(tmp_path / "m" / "model.safetensors")
    body = {name: tensor * 1.5 for name, tensor in state.items() if not name.startswith("classifier")}
    write_model(tmp_path / "base", body)
    folder = write(tmp_path, mix("m", base="base", method="passthrough") | lora(rank=24))
    assert "classifier" in config_of(folder)["modules_to_save"]
    start = kind(transformers.BertConfig(**BERT, num_labels=3))
    start.load_state_dict(body, strict=False)
    found = as_peft_merges(start, folder)
    assert all(relative_rms(found[name], tensor) < 1e-6 for name, tensor in state.items())


def test_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    toy(tmp_path, a__weight=torch.full((4, 4), float("nan")))
    with pytest.raises(FileError, match=r"tensor 'a.weight': a value is not finite.*ingredient 0"):
        write(tmp_path, mix("m", base="base", method="task_arithmetic") | lora(2))
    assert not list((tmp_path / "out").glob("*"))


def test_a_nested_recipe_is_cut_like_any_delta(tmp_path: Path) -> None:
    names = tuned(tmp_path, llama, 2)
    inner = mix(*names, base="base", method={"name": "slerp", "t": 0.3})
    recipe = mix(base="base", method="task_arithmetic") | {"ingredients": [{"source": inner, "weight": 0.5}]}
    folder = write(tmp_path, recipe | lora(rank=16))
    found, wanted = as_peft_merges(pretrained(tmp_path), folder), built(tmp_path, recipe)
    assert all(relative_rms(found[name], tensor) < 1e-6 for name, tensor in wanted.items())


def test_a_result_that_is_the_base_is_an_adapter_without_parts(tmp_path: Path) -> None:
    tuned(tmp_path, llama, 0)
    folder = write(tmp_path, mix("base", base="base", method="passthrough") | lora(2))
    before = load_file(tmp_path / "base" / "model.safetensors")
    found = as_peft_merges(pretrained(tmp_path), folder)
    assert read_errors(folder) == {}
    assert all(torch.equal(found[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("changed", [["model.norm.weight"], []])
def test_an_adapter_without_factors_is_an_ingredient_again(changed: list[str], tmp_path: Path) -> None:
    adapters(tmp_path, llama, 1, r=2, target_modules=["q_proj"])
    before = load_file(tmp_path / "base" / "model.safetensors")
    write_model(tmp_path / "tuned", before | {name: before[name] + 0.5 for name in changed})
    folder = write(tmp_path, mix("tuned", base="base", method="task_arithmetic") | lora(rank=2))
    found = as_peft_merges(pretrained(tmp_path), folder)
    again = built(tmp_path, mix("out", base="base", method="task_arithmetic"))
    assert {name for name, tensor in again.items() if not torch.equal(tensor, before[name])} == set(changed)
    assert all(torch.equal(found[name], tensor) for name, tensor in again.items())
