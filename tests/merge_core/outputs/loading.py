"""Adapters that are written here, as PEFT loads them and merges them into the base."""

import json
import warnings
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from safetensors.torch import load_file

from merge_core.execute import execute
from tests.merge_core.building import planned, write_model
from tests.merge_core.making import Model, disturb, save_base

Tensors = dict[str, torch.Tensor]


def write(root: Path, recipe: Mapping[str, object], name: str = "out", threads: int = 2) -> Path:
    execute(planned(root, recipe), root / name, threads=threads, durable=False)
    return root / name


def adapters(root: Path, make: Any, count: int, **config: Any) -> list[str]:
    """Adapters a0, a1 … of one base, as PEFT saves them."""
    torch.manual_seed(0)
    base = make()
    save_base(base, root / "base")
    for position in range(count):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adapted = peft.get_peft_model(deepcopy(base), peft.LoraConfig(**config))
            disturb(adapted)
            adapted.save_pretrained(root / f"a{position}")
    return [f"a{position}" for position in range(count)]


def tuned(root: Path, make: Any, count: int, std: float = 0.1) -> list[str]:
    """A base, and full fine-tunes m0, m1 … of it: noise on every float."""
    torch.manual_seed(0)
    base = save_base(make(), root / "base")
    tensors = load_file(base / "model.safetensors")
    for position in range(count):
        noisy = {name: tensor + std * torch.randn_like(tensor) for name, tensor in tensors.items()}
        write_model(root / f"m{position}", noisy)
    return [f"m{position}" for position in range(count)]


def as_peft_merges(base: Model, folder: Path) -> Tensors:
    """The model's state once PEFT has loaded the adapter and merged it; whatever PEFT complains of fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        warnings.filterwarnings("ignore", message=".*tie_word_embeddings.*")
        adapted = peft.PeftModel.from_pretrained(base, str(folder))
        return dict(adapted.merge_and_unload().state_dict())


def pretrained(root: Path, kind: Any = transformers.AutoModelForCausalLM) -> Model:
    return kind.from_pretrained(root / "base")


def config_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "adapter_config.json").read_text())
