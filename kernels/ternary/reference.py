"""Ternary tensors in plain torch: the definition, with bits taken apart one by one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kernels.storage import reference as storage
from kernels.trim_elect.reference import trim_elect
from kernels.weighted_sum.reference import weighted_sum

Planes = tuple[Tensor, Tensor, int]
Stored = tuple[Tensor, str]


def pack(values: Tensor, magnitude: float) -> Planes:
    return _bytes(values >= magnitude), _bytes(values <= -magnitude), 0


def unpack(planes: Planes, value: float, size: int) -> Tensor:
    positive, negative, start = planes
    signs = _bits(positive)[start : start + size].float() - _bits(negative)[start : start + size].float()
    return signs * torch.tensor(value, dtype=torch.float32) + 0.0


def ternarize(values: Tensor, magnitude: float, ties: int, value: float) -> Tensor:
    size, limit = values.abs(), torch.tensor(magnitude, dtype=torch.float32)
    is_kept = (size > limit) | ((size == limit) & (torch.arange(len(values)) < ties) & (size > 0))
    return torch.where(is_kept, values.sign() * torch.tensor(value, dtype=torch.float32), 0.0) + 0.0


def tally(planes: Planes) -> tuple[int, int, int]:
    positive, negative = _bits(planes[0]), _bits(planes[1])
    return int(positive.sum()), int(negative.sum()), int((positive & negative).sum())


def signed_sum(
    base: Stored, experts: Sequence[Planes], values: Tensor, coefficients: Tensor, label: str, scale: float | None
) -> Tensor:
    widened = storage.widen(*base)
    deltas = _rows(experts, values, len(widened))
    if scale is None:
        return storage.narrow(weighted_sum(deltas + widened, coefficients), label)
    return storage.add_scaled_narrow(widened, weighted_sum(deltas, coefficients), scale, label)


def signed_election(
    base: Stored, experts: Sequence[Planes], values: Tensor, weights: Tensor, label: str, scale: float, *choices: Any
) -> Tensor:
    widened = storage.widen(*base)
    deltas = _rows(experts, values, len(widened))
    untrimmed = torch.zeros(len(deltas)), torch.full((len(deltas),), 2**62)
    return storage.add_scaled_narrow(widened, trim_elect(deltas, weights, *untrimmed, 0, *choices), scale, label)


def _rows(experts: Sequence[Planes], values: Tensor, size: int) -> Tensor:
    return torch.stack([unpack(expert, float(value), size) for expert, value in zip(experts, values, strict=True)])


def _bytes(is_set: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(is_set.to(torch.uint8), (0, -len(is_set) % 64)).reshape(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8)).sum(dim=1).to(torch.uint8)


def _bits(plane: Tensor) -> Tensor:
    return ((plane[:, None] >> torch.arange(8, dtype=torch.uint8)) & 1).bool().reshape(-1)
