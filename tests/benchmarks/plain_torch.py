"""What one writes without a tool: load with safetensors, stack in float32, merge, save.

python plain_torch.py linear OUT INPUT...
python plain_torch.py ties OUT BASE INPUT...
"""

import sys
from contextlib import ExitStack
from math import ceil

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

DENSITY = 0.2


def linear(tensors: list[Tensor]) -> Tensor:
    stack = torch.stack([tensor.float() for tensor in tensors])
    weights = torch.full([len(tensors)] + [1] * tensors[0].dim(), 1 / len(tensors))
    return (stack * weights).sum(dim=0)


def ties(tensors: list[Tensor]) -> Tensor:
    base = tensors[0].float()
    deltas = torch.stack([trim(tensor.float() - base) for tensor in tensors[1:]])
    agrees = (deltas.sign() == deltas.sum(dim=0).sign()) & (deltas != 0)
    return base + (deltas * agrees).sum(dim=0) / agrees.sum(dim=0).clamp(min=1)


def trim(delta: Tensor) -> Tensor:
    dropped = delta.numel() - ceil(DENSITY * delta.numel())
    if dropped == 0:
        return delta
    last = delta.abs().flatten().kthvalue(dropped).values
    return delta * (delta.abs() > last)


METHODS = {"linear": linear, "ties": ties}


def main(method: str, out: str, *inputs: str) -> None:
    """Merge tensor by tensor; the result is kept until it is saved."""
    merged: dict[str, Tensor] = {}
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(path, "pt")) for path in inputs]
        for name in files[0].keys():  # noqa: SIM118 (an open safetensors file is no dict)
            tensors = [file.get_tensor(name) for file in files]
            merged[name] = METHODS[method](tensors).to(tensors[0].dtype)
    save_file(merged, out, metadata={"format": "pt"})


if __name__ == "__main__":
    main(*sys.argv[1:])
