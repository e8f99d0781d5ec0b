"""Adapters of Conv1D and Linear modules, square ones too: as PEFT merges them, whatever their flag says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from merge_core.errors import RecipeError
from tests.merge_core.building import built, mix, planned, relative_rms, write_adapter, write_model
from tests.merge_core.making import GPT2, Model, edit_config, gpt2, llama, save_adapter

SUM = {"base": "base", "method": "task_arithmetic"}


def gpt2_classifier() -> Model:
    """Square Conv1D modules, and a square Linear."""
    return transformers.GPT2ForTokenClassification(transformers.GPT2Config(**GPT2, num_labels=16))


CASES: list[tuple[Callable[[], Model], dict[str, Any]]] = [
    (gpt2, {"target_modules": ["attn.c_proj"]}),
    (gpt2, {"target_modules": ["c_attn", "c_proj"]}),
    (gpt2, {"target_modules": ["attn.c_proj"], "use_dora": True}),
    (gpt2_classifier, {"target_modules": ["c_attn", "attn.c_proj", "classifier"]}),
    (llama, {"target_modules": ["q_proj", "up_proj"]}),
]


@pytest.mark.parametrize(("make", "config"), CASES)
@pytest.mark.parametrize("flag", [True, False])
def test_the_modules_class_decides_and_not_the_flag(
    make: Callable[[], Model], config: dict[str, Any], flag: bool, tmp_path: Path
) -> None:
    expected = save_adapter(make, tmp_path, r=2, **config)
    edit_config(tmp_path / "adapter", fan_in_fan_out=flag)
    found = built(tmp_path, mix("adapter", **SUM))
    assert all(relative_rms(tensor, expected[name]) < 3e-7 for name, tensor in found.items())


def square(root: Path, kind: str | None, flag: bool) -> tuple[torch.Tensor, str]:
    a, b = torch.randn(2, 4), torch.randn(4, 2)
    write_model(root / "base", {"q.weight": torch.zeros(4, 4), "o.weight": torch.zeros(6, 4)})
    if kind is not None:
        (root / "base" / "config.json").write_text(json.dumps({"model_type": kind}))
    return b @ a, write_adapter(root / "a", {"q": (a, b)}, fan_in_fan_out=flag)


@pytest.mark.parametrize("kind", [None, "llama"])
def test_a_flag_on_square_weights_alone_is_refused_where_no_class_is_known(kind: str | None, tmp_path: Path) -> None:
    _, name = square(tmp_path, kind, flag=True)
    with pytest.raises(RecipeError, match=r"tensor 'q.weight': .*cannot be told; found fan_in_fan_out .*'a'.*gpt2"):
        planned(tmp_path, mix(name, **SUM))


@pytest.mark.parametrize("kind", [None, "llama", "gpt2"])
def test_square_weights_without_a_flag_are_those_of_a_linear(kind: str | None, tmp_path: Path) -> None:
    delta, name = square(tmp_path, kind, flag=False)
    assert torch.allclose(built(tmp_path, mix(name, **SUM))["q.weight"], delta)


@pytest.mark.parametrize("is_transposed", [True, False])
def test_weights_that_are_not_square_speak_for_those_that_are(is_transposed: bool, tmp_path: Path) -> None:
    a, b, c, d = torch.randn(2, 4), torch.randn(4, 2), torch.randn(2, 4), torch.randn(6, 2)
    wide = (4, 6) if is_transposed else (6, 4)
    write_model(tmp_path / "base", {"q.weight": torch.zeros(4, 4), "o.weight": torch.zeros(wide)})
    write_adapter(tmp_path / "a", {"q": (a, b), "o": (c, d)}, fan_in_fan_out=True)
    found = built(tmp_path, mix("a", **SUM))
    for name, delta in (("q.weight", b @ a), ("o.weight", d @ c)):
        assert torch.allclose(found[name], delta.T if is_transposed else delta)
