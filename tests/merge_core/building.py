"""Models on disk, and the whole way from a recipe to the tensors of its output."""

import json
import tempfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from merge_core.execute import execute
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe
from merge_core.sources import folder_source

Tensors = Mapping[str, torch.Tensor]

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)

ROUNDING = {torch.float64: 2.0**-23, torch.float32: 2.0**-23, torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}
"""One unit in the last place, relative: of the stored type, or of float32, in which everything is computed."""

TOLERANCE = {torch.float64: 5e-7, torch.float32: 5e-7, torch.float16: 4e-4, torch.bfloat16: 3e-3}
"""Relative RMS against float64: one rounding to the stored type (2⁻¹²/√3, 2⁻⁹/√3 for the halves), and for
float32, and float64 computed in it, the few roundings of a sum of up to eight terms."""


def write_model(folder: Path, tensors: Tensors) -> str:
    """A full checkpoint; returns the folder's name, the source for a recipe beside it."""
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architectures": ["Toy"]}))
    return folder.name


def write_adapter(folder: Path, factors: Mapping[str, tuple[torch.Tensor, torch.Tensor]], **config: object) -> str:
    """A PEFT LoRA from module name → (A, B), all of one rank; alpha = rank unless `config` says otherwise."""
    folder.mkdir(parents=True)
    tensors = {}
    for module, (a, b) in factors.items():
        tensors[f"base_model.model.{module}.lora_A.weight"] = a.contiguous()
        tensors[f"base_model.model.{module}.lora_B.weight"] = b.contiguous()
    save_file(tensors, folder / "adapter_model.safetensors")
    rank = len(next(iter(factors.values()))[0])
    content = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": sorted(factors)} | config
    (folder / "adapter_config.json").write_text(json.dumps(content))
    return folder.name


def planned(root: Path, recipe: Mapping[str, object], memory_bytes: int | None = None) -> Plan:
    return make_plan(Recipe.parse(dict(recipe)), lambda name: folder_source(name, root), memory_bytes)


def built(root: Path, recipe: Mapping[str, object], threads: int = 2) -> dict[str, torch.Tensor]:
    """The output's tensors, read by the official library."""
    plan = planned(root, recipe)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        execute(plan, Path(folder), threads=threads, durable=False)
        return loaded(Path(folder))


def merged(models: Mapping[str, Tensors], recipe: Mapping[str, object], threads: int = 2) -> dict[str, torch.Tensor]:
    """`recipe` over full checkpoints that are written for the occasion."""
    with tempfile.TemporaryDirectory() as folder:
        for name, tensors in models.items():
            write_model(Path(folder) / name, tensors)
        return built(Path(folder), recipe, threads)


def mix(*names: str, weights: tuple[float, ...] = (), **recipe: object) -> dict[str, object]:
    """A recipe over the sources `names`; without `weights` the method's defaults."""
    ingredients = [{"source": name} for name in names]
    if weights:
        ingredients = [{"source": name, "weight": weight} for name, weight in zip(names, weights, strict=True)]
    return {"ingredients": ingredients, **recipe}


def loaded(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def raw(tensor: torch.Tensor) -> bytes:
    """The stored bytes: what bit for bit means."""
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def file_hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def relative_rms(found: torch.Tensor, expected: torch.Tensor) -> float:
    """‖found − expected‖ / ‖expected‖; the absolute RMS where nothing but zero is expected."""
    if expected.numel() == 0:
        return 0.0
    size = expected.double().square().mean().sqrt().item()
    error = (found.double() - expected.double()).square().mean().sqrt().item()
    return error / size if size > 0 else error
