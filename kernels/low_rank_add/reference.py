"""Adding a low-rank product in plain torch: the definition."""

import torch
from torch import Tensor

from kernels.storage import reference as storage


def low_rank_add(out: Tensor, columns: int, start: int, up: Tensor, down: Tensor, scale: float) -> Tensor:
    if out.numel() == 0:
        return out
    first, last = start // columns, (start + out.numel() - 1) // columns
    scaled = torch.tensor(scale, dtype=torch.float32, device=out.device) * up[first : last + 1]
    total = torch.zeros(len(scaled), columns, device=out.device)
    for k in range(scaled.shape[1]):
        total = total + scaled[:, k, None] * down[None, k]
    offset = start - first * columns
    return out.add_(total.reshape(-1)[offset : offset + out.numel()])


def stored_low_rank_add(
    base: tuple[Tensor, str], columns: int, start: int, up: Tensor, down: Tensor, scale: float, label: str
) -> Tensor:
    return storage.narrow(low_rank_add(storage.widen(*base), columns, start, up, down, scale), label)
