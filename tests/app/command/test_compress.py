"""`stockpot compress` as a process: what is kept of a fine-tune, and what the report says of it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.app.command.conftest import Run, write_recipe


def merged_back(stockpot: Run, tmp_path: Path, source: str) -> dict[str, torch.Tensor]:
    write_recipe(tmp_path / "r.yaml", base="base", method="task_arithmetic", ingredients=[{"source": source}])
    result = stockpot("merge", "r.yaml", f"{source}-back")
    assert result.returncode == 0, result.stderr
    return load_file(tmp_path / f"{source}-back" / "model.safetensors")


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_a_fine_tune_comes_back_as_signs_times_one_value(
    stockpot: Run, models: dict, tmp_path: Path, form: str
) -> None:
    result = stockpot(
        "compress", "math", "small", "--base", "base", "--density", 0.3, "--alpha", 2, "--form", form, "--json"
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    back = merged_back(stockpot, tmp_path, "small")
    base = models["base"]
    deltas = {name: models["math"][name] - base[name] for name in base}
    flat = torch.cat([deltas[name].flatten() for name in sorted(deltas)])
    value, limit = 2 * flat.std(), flat.abs().sort(descending=True).values[round(0.3 * flat.numel()) - 1]
    squares = 0.0
    for name, delta in deltas.items():
        kept = torch.where(delta.abs() >= limit, value * delta.sign(), 0.0)
        torch.testing.assert_close(back[name], base[name] + kept, rtol=0, atol=1e-6)
        row = next(row for row in report["by_tensor"] if row["name"] == name)
        assert row["entries"] == int((kept != 0).sum())
        assert row["relative_error"] == pytest.approx(float((delta - kept).norm() / delta.norm()), rel=1e-5)
        squares += row["entries"]
    assert (report["entries"], report["elements"], report["form"]) == (squares, flat.numel(), form)
    assert report["bytes"] == (tmp_path / "small" / "ternary.safetensors").stat().st_size


def test_an_adapters_own_tensors_are_compressed_without_a_base(stockpot: Run, models: dict, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    factors = {"A": torch.randn(4, 30), "B": torch.randn(40, 4)}
    save_file(
        {f"base_model.model.layer.lora_{key}.weight": tensor for key, tensor in factors.items()},
        adapter / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["layer"]}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    result = stockpot("compress", "adapter", "small", "--density", 0.5, "--scope", "tensor")
    assert result.returncode == 0, result.stderr
    assert json.loads((tmp_path / "small" / "adapter_config.json").read_text()) == config
    small = {}
    for key, factor in factors.items():
        limit = factor.abs().flatten().sort(descending=True).values[factor.numel() // 2 - 1]
        small[key] = torch.where(factor.abs() >= limit, factor.std() * factor.sign(), 0.0)
    back, base = merged_back(stockpot, tmp_path, "small"), models["base"]
    torch.testing.assert_close(back["layer.weight"], base["layer.weight"] + 2 * small["B"] @ small["A"])
    assert torch.equal(back["layer.bias"], base["layer.bias"])


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ((), "base: a delta of weights is one of a base"),
        (("--base", "base", "--alpha", 0), "output.alpha"),
        (("--base", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_compressed_is_refused_with_nothing_left(
    stockpot: Run, models: dict, tmp_path: Path, options: tuple, where: str
) -> None:
    result = stockpot("compress", "math", "small", *options)
    assert result.returncode == 2
    assert where in result.stderr
    assert not (tmp_path / "small").exists()
