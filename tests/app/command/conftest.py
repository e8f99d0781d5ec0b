"""Two fine-tunes of a small base on disk, and the command as a process."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save_file

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stockpot(tmp_path: Path) -> Run:
    """Run `stockpot ARGS` in tmp_path."""

    def run(*args: object, **kwargs: object) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).with_name("stockpot")), *map(str, args)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120, **kwargs)

    return run


@pytest.fixture
def models(tmp_path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """`base`, `math` and `code` as model folders in tmp_path."""
    generator = torch.Generator().manual_seed(7)
    base = {
        "layer.weight": torch.randn(40, 30, generator=generator),
        "layer.bias": torch.randn(40, generator=generator),
    }
    models = {"base": base}
    for name in ("math", "code"):
        models[name] = {
            key: value + 0.05 * torch.randn(value.shape, generator=generator) for key, value in base.items()
        }
    for name, tensors in models.items():
        write_model(tmp_path / name, tensors)
    return models


def write_model(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    save_file(
        {key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    (folder / "config.json").write_text('{"model_type": "toy", "torch_dtype": "float32"}')


def write_recipe(path: Path, **fields: object) -> Path:
    path.write_text(yaml.safe_dump(fields))
    return path
