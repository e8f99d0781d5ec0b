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


def test_an_adapter_says_how_far_each_tensor_is_from_the_fine_tune(stockpot: Run, models: dict, tmp_path: Path) -> None:
    base = models["base"]
    weight = base["layer.weight"].float()
    change = sum(torch.outer(torch.randn(weight.shape[0]), torch.randn(weight.shape[1])) for _ in range(3))
    write_model(tmp_path / "wide", base | {"layer.weight": (weight + change).to(base["layer.weight"].dtype)})
    result = stockpot("extract", "wide", "delta", "--base", "base", "--kind", "lora", "--rank", "2", "--json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    [row] = report["by_tensor"]
    assert (row["name"], row["kind"], row["rank"]) == ("layer.weight", "low_rank", 2)
    write_recipe(tmp_path / "r.yaml", base="base", method="linear", ingredients=[{"source": "delta"}], dtype="float32")
    assert stockpot("merge", "r.yaml", "back").returncode == 0
    wide = load_file(tmp_path / "wide" / "model.safetensors")["layer.weight"].float()
    lost = load_file(tmp_path / "back" / "model.safetensors")["layer.weight"] - wide
    assert row["relative_error"] == pytest.approx(float(lost.norm() / (wide - weight).norm()), rel=1e-3, abs=1e-6)
    assert report["relative_error"] == row["relative_error"]


def test_an_adapter_without_a_rank_is_refused_with_what_to_set(stockpot: Run, tuned: dict, tmp_path: Path) -> None:
    result = stockpot("extract", "tuned", "delta", "--base", "base", "--kind", "lora")
    assert result.returncode == 2
    assert "tensor 'layer.weight'" in result.stderr
    assert "output.rank" in result.stderr
    assert not (tmp_path / "delta").exists()


def test_a_merge_into_an_adapter_reports_its_errors(stockpot: Run, models: dict, tmp_path: Path) -> None:
    output = {"kind": "lora", "rank": 1}
    write_recipe(
        tmp_path / "r.yaml", base="base", method="task_arithmetic", ingredients=[{"source": "math"}], output=output
    )
    result = stockpot("merge", "r.yaml", "delta", "--json")
    assert result.returncode == 0, result.stderr
    assert 0.5 < json.loads(result.stdout)["relative_errors"]["layer.weight"] < 1
