"""Widening and narrowing in plain torch: the definition."""

import torch
from torch import Tensor

DTYPES = {label: getattr(torch, label) for label in ("bfloat16", "float16", "float32", "float64")}
STORAGE = {torch.bfloat16: torch.uint16, torch.float16: torch.uint16}


def widen(raw: Tensor, label: str, out: Tensor | None = None) -> Tensor:
    values = raw.view(DTYPES[label]).to(torch.float32, copy=True)
    return values if out is None else out.copy_(values)


def widen_difference(raw: Tensor, label: str, base: Tensor, out: Tensor | None = None) -> Tensor:
    values = widen(raw, label) - base
    return values if out is None else out.copy_(values)


def narrow(values: Tensor, label: str, out: Tensor | None = None) -> Tensor:
    dtype = DTYPES[label]
    if out is None:
        return values.to(dtype, copy=True).view(STORAGE.get(dtype, dtype))
    out.view(dtype).copy_(values)
    return out


def add_scaled_narrow(base: Tensor, delta: Tensor, scale: float, label: str, out: Tensor | None = None) -> Tensor:
    factor = torch.tensor(scale, dtype=torch.float32, device=delta.device)
    return narrow(base + factor * delta, label, out)
