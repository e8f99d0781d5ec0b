"""Which scale each method should have: plain torch over a grid, on the training split: `python -m tests.demo.choose`.

It computes the compositions from the adapters alone, so it also says what the service's results should score.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.demo.encoder import Encoder, base_folder
from tests.demo.recipes import TIES_DENSITY
from tests.demo.score import make_heads, mean, score
from tests.demo.tasks import EXPERTS, TASKS

Delta = Mapping[str, Tensor]
SCALES = (0.5, 0.6, 0.7, 0.8, 1.0, 1.2)
EVERY = 4  # training texts are in the order of their labels, so each label keeps its share


def main() -> None:
    heads = make_heads(Encoder.load(base_folder()))
    deltas = [read_delta(EXPERTS / task) for task in TASKS]
    for name, delta in _candidates(deltas):
        scores = score(with_delta(delta), heads, "train", EVERY)
        print(f"{name:18} {mean(scores):.3f}", {task: round(value, 3) for task, value in scores.items()}, flush=True)


def _candidates(deltas: list[Delta]) -> Iterator[tuple[str, Delta]]:
    yield "linear", total(deltas, 1 / len(deltas))
    for scale in SCALES:
        yield f"arithmetic {scale}", total(deltas, scale)
        yield f"ties {TIES_DENSITY} {scale}", ties(deltas, TIES_DENSITY, scale)


def read_delta(adapter: Path) -> Delta:
    """alpha / r · B·A for every weight that the adapter changes, by the weight's name in the base."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    factors = load_file(adapter / "adapter_model.safetensors")
    names = [name for name in factors if ".lora_A." in name]
    scale = config["lora_alpha"] / config["r"]
    return {_of_base(name): scale * factors[name.replace("lora_A", "lora_B")] @ factors[name] for name in names}


def _of_base(name: str) -> str:
    return name.removeprefix("base_model.model.").replace(".lora_A", "")


def with_delta(delta: Delta) -> Encoder:
    """The base plus the delta."""
    encoder = Encoder.load(base_folder())
    weights = encoder.model.state_dict()
    for name, change in delta.items():
        weights[name] += change
    return encoder


def total(deltas: list[Delta], scale: float) -> Delta:
    return {name: scale * torch.stack([delta[name] for delta in deltas]).sum(0) for name in deltas[0]}


def ties(deltas: list[Delta], density: float, scale: float) -> Delta:
    """Trim, elect a sign, mean of those that agree; one threshold a tensor."""
    return {name: scale * _agreed(torch.stack([_trimmed(d[name], density) for d in deltas])) for name in deltas[0]}


def _trimmed(change: Tensor, density: float) -> Tensor:
    least = change.abs().flatten().topk(round(density * change.numel())).values[-1]
    return torch.where(change.abs() >= least, change, 0.0)


def _agreed(changes: Tensor) -> Tensor:
    agrees = (changes.sign() == changes.sum(0).sign()) & (changes != 0)
    return (changes * agrees).sum(0) / agrees.sum(0).clamp(min=1)


if __name__ == "__main__":
    main()
