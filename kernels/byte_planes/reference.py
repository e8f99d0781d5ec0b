"""Byte planes in plain torch: the definition, on signed elements, as torch has little unsigned arithmetic."""

import torch
from torch import Tensor

SIGNED = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def split_planes(values: Tensor, base: Tensor | None = None, out: Tensor | None = None) -> Tensor:
    signed = SIGNED[values.itemsize]
    codes = (
        values.view(signed) if base is None else _zigzag(_ordered(values.view(signed)) - _ordered(base.view(signed)))
    )
    planes = codes.contiguous().view(torch.uint8).view(-1, values.itemsize).T.contiguous()
    return planes if out is None else out.copy_(planes)


def join_planes(planes: Tensor, out: Tensor, base: Tensor | None = None) -> Tensor:
    signed = SIGNED[out.itemsize]
    codes = planes.T.contiguous().view(-1).view(signed)
    if base is not None:
        codes = _ordered(_unzigzag(codes) + _ordered(base.view(signed)))
    out.view(signed).copy_(codes)
    return out


def _ordered(bits: Tensor) -> Tensor:
    """Signed numbers that grow with the float; the map is its own inverse."""
    return torch.where(bits < 0, bits ^ torch.iinfo(bits.dtype).max, bits)


def _zigzag(distance: Tensor) -> Tensor:
    return (distance << 1) ^ (distance >> (8 * distance.itemsize - 1))


def _unzigzag(code: Tensor) -> Tensor:
    return ((code >> 1) & torch.iinfo(code.dtype).max) ^ -(code & 1)
