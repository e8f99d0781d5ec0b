"""The sum of stored elements in plain torch: the definition."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kernels.storage import reference as storage
from kernels.weighted_sum.reference import weighted_sum

Stored = tuple[Tensor, str]


def stored_sum(inputs: Sequence[Stored], weights: Tensor, label: str) -> Tensor:
    rows = torch.stack([storage.widen(raw, kind) for raw, kind in inputs])
    return storage.narrow(weighted_sum(rows, weights), label)


def stored_delta_sum(base: Stored, inputs: Sequence[Stored], weights: Tensor, scale: float, label: str) -> Tensor:
    widened = storage.widen(*base)
    rows = torch.stack([storage.widen_difference(raw, kind, widened) for raw, kind in inputs])
    return storage.add_scaled_narrow(widened, weighted_sum(rows, weights), scale, label)
