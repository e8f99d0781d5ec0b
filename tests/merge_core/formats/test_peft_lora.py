"""Adapters that PEFT itself wrote: merged as PEFT merges them, or refused by name."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from merge_core.errors import FileError, InputError, RecipeError, UnsupportedError
from merge_core.formats import read
from merge_core.sources import folder_source
from merge_core.stored import same_values
from tests.merge_core.building import built, mix, planned, relative_rms
from tests.merge_core.making import (
    Convolutions,
    Model,
    bert,
    bert_classifier,
    edit_config,
    edit_tensors,
    gpt2,
    llama,
    save_adapter,
)

TOLERANCE = 3e-7
"""Relative RMS: both sides compute in float32, and differ in the order of a sum of `rank` products and in where
they round (2⁻²⁴ each time)."""

QUERY_VALUE = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"]}
PATTERNS = {
    "rank_pattern": {"layer.0.attention.self.query": 2, ".*value": 3},
    "alpha_pattern": {r"^encoder\.layer\.(1|7).*query": 5, "value": 0.5},
}

GPT2_DORA = {"r": 2, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True, "use_dora": True}

ADAPTERS: dict[str, tuple[Callable[[], Model], dict[str, Any]]] = {
    "query and value": (bert, QUERY_VALUE),
    "rsLoRA": (bert, QUERY_VALUE | {"use_rslora": True}),
    "rank and alpha by pattern": (bert, QUERY_VALUE | PATTERNS),
    "rsLoRA by pattern": (bert, QUERY_VALUE | PATTERNS | {"use_rslora": True}),
    "all biases": (bert, QUERY_VALUE | {"bias": "all"}),
    "biases of adapted modules": (bert, QUERY_VALUE | {"bias": "lora_only"}),
    "a bias beside B": (bert, QUERY_VALUE | {"lora_bias": True}),
    "a bias beside B, and all biases": (bert, QUERY_VALUE | {"lora_bias": True, "bias": "all"}),
    "embeddings, saved beside their delta": (bert, {"r": 3, "target_modules": ["word_embeddings", "query"]}),
    "other embeddings": (bert, {"r": 3, "target_modules": ["position_embeddings"]}),
    "gaussian factors": (bert, QUERY_VALUE | {"init_lora_weights": "gaussian"}),
    "orthogonal factors": (bert, QUERY_VALUE | {"init_lora_weights": "orthogonal"}),
    "every linear module": (llama, {"r": 2, "target_modules": "all-linear"}),
    "embeddings and head": (llama, {"r": 2, "target_modules": ["embed_tokens", "lm_head", "q_proj"]}),
    "whole modules": (llama, {"r": 2, "target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "weights stored transposed": (gpt2, {"r": 2, "target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True}),
    "square weights stored transposed": (gpt2, {"r": 2, "target_modules": ["attn.c_proj"], "fan_in_fan_out": True}),
    "tied embeddings": (gpt2, {"r": 2, "target_modules": ["wte", "c_attn"], "fan_in_fan_out": True}),
    "a new head": (bert_classifier, QUERY_VALUE | {"task_type": "SEQ_CLS"}),
    "convolutions": (Convolutions, {"r": 2, "target_modules": ["one", "two", "point", "three"]}),
    "some tokens": (llama, {"r": 2, "target_modules": ["q_proj"], "trainable_token_indices": [7, 3, 39]}),
    "some tokens by name": (bert, QUERY_VALUE | {"trainable_token_indices": {"word_embeddings": [5, 0]}}),
    "some tokens of tied embeddings": (gpt2, GPT2_DORA | {"use_dora": False, "trainable_token_indices": [1]}),
    "DoRA": (bert, QUERY_VALUE | {"use_dora": True}),
    "DoRA with rsLoRA by pattern": (bert, QUERY_VALUE | PATTERNS | {"use_dora": True, "use_rslora": True}),
    "DoRA of weights stored transposed": (gpt2, GPT2_DORA),
    "DoRA of embeddings": (bert, {"r": 3, "target_modules": ["word_embeddings"], "use_dora": True}),
    "DoRA of embeddings, saved beside": (llama, {"r": 3, "target_modules": ["embed_tokens"], "use_dora": True}),
    "DoRA of convolutions": (Convolutions, {"r": 2, "target_modules": ["one", "two", "three"], "use_dora": True}),
}


@pytest.mark.parametrize("kind", ADAPTERS)
def test_an_adapter_of_weight_1_gives_what_peft_merges(kind: str, tmp_path: Path) -> None:
    make, config = ADAPTERS[kind]
    expected = save_adapter(make, tmp_path, **config)
    found = built(tmp_path, mix("adapter", base="base", method="task_arithmetic"))
    tied = {"lm_head.weight"} if make is gpt2 else set()
    assert found.keys() == expected.keys() - tied
    for name, tensor in found.items():
        assert relative_rms(tensor, expected[name]) < TOLERANCE, name


@pytest.mark.parametrize(("base", "adapted"), [(bert, bert_classifier), (bert_classifier, bert)])
def test_a_prefix_that_only_one_side_has_is_bridged(
    base: Callable[[], Model], adapted: Callable[[], Model], tmp_path: Path
) -> None:
    expected = save_adapter(adapted, tmp_path / "other", **QUERY_VALUE)
    save_adapter(base, tmp_path, **QUERY_VALUE)
    without = {name.removeprefix("bert."): tensor for name, tensor in expected.items()}
    found = built(tmp_path, mix("other/adapter", base="base", method="task_arithmetic"))
    changed = [name for name in found if name.endswith(("query.weight", "value.weight"))]
    assert len(changed) == 4
    for name in changed:
        assert relative_rms(found[name], without[name.removeprefix("bert.")]) < TOLERANCE


def test_a_new_head_comes_along_with_a_note(tmp_path: Path) -> None:
    save_adapter(bert_classifier, tmp_path / "task", **QUERY_VALUE, task_type="SEQ_CLS")
    save_adapter(bert, tmp_path, **QUERY_VALUE)
    plan = planned(tmp_path, mix("task/adapter", base="base", method="task_arithmetic"))
    assert {"classifier.weight", "classifier.bias"} < plan.tensors.keys()
    assert any("'classifier.weight' is only in 'task/adapter'" in warning for warning in plan.warnings)


def test_half_precision_factors_are_multiplied_in_float32(tmp_path: Path) -> None:
    save_adapter(bert, tmp_path, **QUERY_VALUE)
    edit_tensors(tmp_path / "adapter", lambda tensors: {name: tensor.bfloat16() for name, tensor in tensors.items()})
    half = built(tmp_path, mix("adapter", base="base", method="task_arithmetic"))
    edit_tensors(tmp_path / "adapter", lambda tensors: {name: tensor.float() for name, tensor in tensors.items()})
    full = built(tmp_path, mix("adapter", base="base", method="task_arithmetic"))
    assert all(torch.equal(half[name], full[name]) for name in full)


REFUSED_CONFIGS: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA": ({"use_dora": True}, "query'.*magnitudes and factors do not agree; found no magnitude"),
    "PiSSA": ({"init_lora_weights": "pissa"}, "init_lora_weights.*changed base.*'pissa'.*PEFT converts it to"),
    "fast PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights.*'pissa_niter_4'"),
    "OLoRA": ({"init_lora_weights": "olora"}, "init_lora_weights.*'olora'"),
    "CorDA": ({"init_lora_weights": "corda"}, "init_lora_weights.*'corda'"),
    "LoftQ": ({"init_lora_weights": "loftq"}, "init_lora_weights.*'loftq'"),
    "LoRA-GA": ({"init_lora_weights": "lora_ga"}, "init_lora_weights.*'lora_ga'"),
    "an initialisation to come": ({"init_lora_weights": "quux"}, "init_lora_weights.*'quux'"),
    "single parameters": ({"target_parameters": ["experts.weight"]}, "target_parameters"),
    "tokens without rows": ({"trainable_token_indices": [1, 2]}, r"trainable_token_indices.*missing; found \[1, 2\]"),
    "tokens below 0": ({"trainable_token_indices": [-1]}, "trainable_token_indices.*found -1"),
    "repeated layers": ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
    "activated LoRA": ({"alora_invocation_tokens": [1]}, "alora_invocation_tokens"),
    "Arrow": ({"arrow_config": {"top_k": 2}}, "arrow_config"),
    "QA-LoRA": ({"use_qalora": True}, "use_qalora"),
    "a field to come": ({"use_quux": {"depth": 1}}, "use_quux"),
    "another kind": ({"peft_type": "QUUX"}, "peft_type.*found 'QUUX'; expected LORA"),
    "no kind": ({"peft_type": None}, "peft_type.*found None"),
    "r = 0": ({"r": 0}, "adapter_config.json: r: .*found 0"),
    "r = -1": ({"r": -1}, "adapter_config.json: r: "),
    "r = true": ({"r": True}, "adapter_config.json: r: .*found True"),
    "r as a string": ({"r": "4"}, "adapter_config.json: r: .*found '4'"),
    "r of 400 digits": ({"r": 10**400}, "adapter_config.json: r: "),
    "r as a fraction": ({"r": 4.5}, "adapter_config.json: r: "),
    "no r": ({"r": None}, "adapter_config.json: r: .*found None"),
    "alpha NaN": ({"lora_alpha": float("nan")}, "lora_alpha.*found nan"),
    "alpha infinite": ({"lora_alpha": float("inf")}, "lora_alpha.*found inf"),
    "alpha past float32": ({"lora_alpha": 1e60}, r"lora_alpha.*found 1e\+60"),
    "alpha as a string": ({"lora_alpha": "8"}, "lora_alpha.*found '8'"),
    "rsLoRA as a string": ({"use_rslora": "no"}, "use_rslora.*found 'no'"),
    "a rank of 0 by pattern": ({"rank_pattern": {"query": 0}}, "rank_pattern.query.*found 0"),
    "a rank of NaN by pattern": ({"rank_pattern": {"query": float("nan")}}, "rank_pattern.query"),
    "an alpha of NaN by pattern": ({"alpha_pattern": {"query": float("nan")}}, "alpha_pattern.query.*found nan"),
    "patterns in a list": ({"rank_pattern": ["query"]}, "rank_pattern.*found"),
    "a pattern that is none": ({"rank_pattern": {"(query": 4}}, r"rank_pattern: not a regular expression.*\(query"),
    "a rank that the factors do not have": ({"r": 8}, r"lora_A.*rank differs.*found \[4, 16\]; expected \[8, …\]"),
    "a rank by pattern that they do not have": ({"rank_pattern": {"value": 3}}, "value.*rank differs"),
    "a base name of a megabyte": ({"base_model_name_or_path": "b" * 900_000}, "base_model_name_or_path"),
}


@pytest.mark.parametrize("kind", REFUSED_CONFIGS)
def test_a_config_that_means_something_else_is_refused_by_name(kind: str, adapter: Path) -> None:
    changes, found = REFUSED_CONFIGS[kind]
    edit_config(adapter, **changes)
    with pytest.raises(InputError, match=f"(?s){found}") as caught:
        read(folder_source(str(adapter)).files)
    assert len(str(caught.value)) < 600


BOMBS = [
    "(.*)*x",
    "(a+)+$",
    "(a|a)*x",
    "(?:a{1,9}){1,9}x",
    ".*" * 20 + "x",
    "a?" * 60 + "a" * 60,
    "(a|a)" * 40,
    "x" * 100_000 + "*",
]


@pytest.mark.parametrize("pattern", BOMBS, ids=lambda pattern: pattern[:12])
def test_an_expression_that_could_match_for_ever_is_refused(pattern: str, adapter: Path) -> None:
    edit_config(adapter, rank_pattern={pattern: 4})
    edit_tensors(adapter, lambda tensors: {_longer(name): tensor for name, tensor in tensors.items()})
    with pytest.raises(UnsupportedError, match=r"rank_pattern: the pattern could take for ever.*expected names"):
        read(folder_source(str(adapter)).files)


def _longer(name: str) -> str:
    return name.replace("encoder", "a" * 200)


def test_tens_of_thousands_of_patterns_by_name_are_looked_up_quickly(adapter: Path) -> None:
    edit_config(adapter, rank_pattern={f"m{number}": 1 for number in range(60_000)} | {"query": 4})
    assert read(folder_source(str(adapter)).files).facts["ranks"] == [4]


OTHER_KINDS = [
    peft.AdaLoraConfig(total_step=1),
    peft.LNTuningConfig(),
    peft.VBLoRAConfig(),
    peft.FourierFTConfig(),
]


@pytest.mark.parametrize("config", OTHER_KINDS, ids=lambda config: config.peft_type.value)
def test_another_kind_of_adapter_is_refused_by_its_name(config: peft.PeftConfig, adapter: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config.save_pretrained(adapter)
    with pytest.raises(UnsupportedError, match=f"peft_type.*found '{config.peft_type.value}'; expected LORA"):
        read(folder_source(str(adapter)).files)


@pytest.mark.parametrize("content", ["[]", "null", "3", '"LORA"', "{", "", '{"peft_type": "LORA", "peft_type": "IA3"}'])
def test_a_config_that_is_no_object_is_refused(content: str, adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text(content)
    with pytest.raises(FileError, match=r"^adapter_config\.json: "):
        read(folder_source(str(adapter)).files)


QUERY = "base_model.model.encoder.layer.0.attention.self.query."

Tensors = dict[str, torch.Tensor]


def without(key: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != key}


def replaced(**new: torch.Tensor) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {QUERY + key: tensor for key, tensor in new.items()}


def added(name: str, *shape: int) -> Callable[[Tensors], Tensors]:
    return lambda tensors: tensors | {name: torch.ones(*shape)}


REFUSED_TENSORS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "B alone": (without(QUERY + "lora_A.weight"), "layer.0.attention.self.query'.*no partner; found only up"),
    "A alone": (without(QUERY + "lora_B.weight"), "layer.0.attention.self.query'.*no partner; found only down"),
    "no factors": (lambda tensors: {"classifier.weight": torch.ones(2)}, "no LoRA factors"),
    "B of another rank": (
        replaced(**{"lora_B.weight": torch.ones(16, 3)}),
        r"do not multiply.*A \[4, 16\], B \[16, 3\]",
    ),
    "a flat A": (replaced(**{"lora_A.weight": torch.ones(4)}), r"not a LoRA factor; found .*float32\[4\]"),
    "A without dimensions": (replaced(**{"lora_A.weight": torch.ones(())}), r"rank differs.*found \[\]"),
    "A of integers": (replaced(**{"lora_A.weight": torch.ones(4, 16).long()}), "not a LoRA factor; found .*int64"),
    "a magnitude": (added(QUERY + "lora_magnitude_vector", 16), "self.query'.*do not agree; found a magnitude"),
    "rows of tokens nobody names": (
        added("base_model.model.embeddings.word_embeddings.token_adapter.trainable_tokens_delta", 2, 16),
        r"trainable_tokens_delta'.*trained rows do not fit; found \[2, 16\]; expected 0 rows",
    ),
    "a latent mapping for one module": (
        added(QUERY + "lora_latent_mapping.weight", 4, 4),
        "found only A and B; expected R",
    ),
    "one module in two spellings": (
        added(QUERY.removeprefix("base_model.model.") + "lora_A.weight", 4, 16),
        "two tensors",
    ),
    "a module of two kinds": (added(QUERY + "lora_embedding_A", 4, 16), "two tensors have the same meaning"),
    "a copy of another shape": (added(QUERY + "base_layer.weight", 3, 3), r"copy \[3, 3\] and a delta \[16, 16\]"),
    "a copy of integers": (
        lambda tensors: tensors | {QUERY + "base_layer.weight": torch.ones(16, 16).long()},
        "not a trained weight; found .*int64",
    ),
}


@pytest.mark.parametrize("kind", REFUSED_TENSORS)
def test_factors_that_do_not_fit_are_refused_by_name(kind: str, adapter: Path) -> None:
    change, found = REFUSED_TENSORS[kind]
    edit_tensors(adapter, change)
    with pytest.raises(FileError, match=f"^adapter_model.safetensors.*{found}"):
        read(folder_source(str(adapter)).files)


def test_a_module_that_the_base_lacks_is_refused_with_the_nearest_names(adapter: Path) -> None:
    edit_tensors(adapter, lambda tensors: {name.replace("query", "qery"): t for name, t in tensors.items()})
    with pytest.raises(
        RecipeError, match=r"lands on no tensor.*self\.qery\.weight' of 'adapter'.*self\.query\.weight'"
    ):
        planned(adapter.parent, mix("adapter", base="base", method="task_arithmetic"))


def test_a_shape_that_the_base_lacks_is_refused_with_model_tensor_found_and_expected(adapter: Path) -> None:
    edit_tensors(adapter, replaced(**{"lora_B.weight": torch.ones(7, 4)}))
    message = (
        r"tensor 'encoder\.layer\.0.*query\.weight'.*shapes differ; found \[7, 16\] in 'adapter'.*\[16, 16\].*'base'"
    )
    with pytest.raises(RecipeError, match=message):
        planned(adapter.parent, mix("adapter", base="base", method="task_arithmetic"))


def test_weights_in_a_pickle_are_read_where_there_is_no_safetensors_file(adapter: Path) -> None:
    expected = read(folder_source(str(adapter)).files)
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    found = read(folder_source(str(adapter)).files)
    assert found.deltas.keys() == expected.deltas.keys()
    assert all(same_values(found.tensors[name], stored) for name, stored in expected.tensors.items())


def test_an_adapter_without_weights_is_refused(adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(FileError, match=r"weights are missing.*expected adapter_model\.safetensors"):
        read(folder_source(str(adapter)).files)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A sound adapter, its base beside it."""
    save_adapter(bert, tmp_path, **QUERY_VALUE)
    return tmp_path / "adapter"


@pytest.mark.parametrize("targets", ["dummy", ["dummy-target-modules"], ["query"], None, []])
def test_copies_alone_are_read_only_where_the_config_says_that_no_module_has_factors(
    targets: object, adapter: Path
) -> None:
    edit_tensors(adapter, lambda tensors: {"base_model.model.classifier.weight": torch.ones(2)})
    edit_config(adapter, target_modules=targets)
    with pytest.raises(FileError, match="no LoRA factors"):
        read(folder_source("adapter", adapter.parent).files)
    edit_config(adapter, target_modules="dummy-target-modules")
    assert read(folder_source("adapter", adapter.parent).files).deltas.keys() == {"classifier.weight"}


@pytest.mark.parametrize("name", ["lora_A.weight", "lora_B.weight", "lora_C.weight", "lora_A"])
def test_a_part_of_factors_is_refused_where_the_config_says_that_there_are_none(name: str, adapter: Path) -> None:
    edit_config(adapter, target_modules="dummy-target-modules")
    edit_tensors(adapter, lambda tensors: {QUERY + name: torch.ones(4, 16)})
    with pytest.raises(FileError, match=r"no partner|unknown meaning"):
        read(folder_source("adapter", adapter.parent).files)
