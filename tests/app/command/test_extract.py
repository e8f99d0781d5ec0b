"""`stockpot extract` as a process: the delta, put on the base again, is the fine-tune."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.app.command.conftest import Run, write_model, write_recipe


@pytest.fixture
def tuned(models: dict, tmp_path: Path) -> dict[str, torch.Tensor]:
    """`tuned` in tmp_path: one weight of the base changed at ten places."""
    weight = models["base"]["layer.weight"].clone()
    weight.view(-1)[::120] += 1
    tensors = models["base"] | {"layer.weight": weight}
    write_model(tmp_path / "tuned", tensors)
    return tensors


@pytest.mark.parametrize(("kind", "changed"), [("patch", 10), ("dense", 1200)])
def test_what_is_extracted_and_put_on_the_base_is_the_fine_tune(
    stockpot: Run, tuned: dict, tmp_path: Path, kind: str, changed: int
) -> None:
    result = stockpot("extract", "tuned", "delta", "--base", "base", "--kind", kind, "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["tensors"], report["changed"], report["relative_error"]) == (1, changed, 0.0)
    assert report["bytes"] == (tmp_path / "delta" / "patch.safetensors").stat().st_size
    write_recipe(tmp_path / "r.yaml", base="base", method="linear", ingredients=[{"source": "delta"}])
    assert stockpot("merge", "r.yaml", "back").returncode == 0
    back = load_file(tmp_path / "back" / "model.safetensors")
    assert all(torch.equal(back[name], tensor) for name, tensor in tuned.items())


def test_a_fine_tune_of_another_dtype_is_refused_with_nothing_left(stockpot: Run, models: dict, tmp_path: Path) -> None:
    write_model(tmp_path / "half", {name: tensor.half() for name, tensor in models["base"].items()})
    result = stockpot("extract", "half", "delta", "--base", "base")
    assert result.returncode == 2
    assert "would not give the fine-tune back" in result.stderr
    assert not (tmp_path / "delta").exists()


def test_a_patch_that_is_merged_states_its_true_size(stockpot: Run, tuned: dict, tmp_path: Path) -> None:
    source = [{"source": "tuned"}]
    write_recipe(
        tmp_path / "r.yaml", base="base", method="task_arithmetic", ingredients=source, output={"kind": "patch"}
    )
    result = stockpot("merge", "r.yaml", "delta", "--json")
    assert json.loads(result.stdout)["bytes"] == (tmp_path / "delta" / "patch.safetensors").stat().st_size
