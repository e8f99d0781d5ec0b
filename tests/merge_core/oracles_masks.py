"""Methods that mask entries by what the tasks share, a second time: slow and obvious, in float64."""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from typing import Any

import torch
from torch import Tensor

WHOLE_MODEL = {"emr", "pcb", "localize_and_stitch", "sparse_composition"}
"""Methods that look at all tensors end to end, whatever their settings."""


def consensus_ta(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    values = weights[:, None] * stack
    needed = min(settings.get("owners", 2), len(stack))
    return torch.where(_tall_masks(values, settings).sum(0) >= needed, values.sum(0), 0.0)


def tall_mask(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    values = weights[:, None] * stack
    return torch.where(_tall_masks(values, settings)[settings.get("task", 0)], values.sum(0), 0.0)


def _tall_masks(values: Tensor, settings: Mapping[str, Any]) -> Tensor:
    return values.abs() > settings.get("mask_scale", 0.4) * (values.sum(0) - values).abs()


def emr(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    values, own = weights[:, None] * stack, stack[settings.get("task", 0)]
    sign = values.sum(0).sign()
    largest = torch.where(values * sign > 0, values.abs(), 0.0).amax(0)
    masked = torch.where(own * sign > 0, sign * largest, 0.0)
    sizes = [shape.numel() for _, shape in settings["tensors"] if shape.numel()]
    means = [sum(part.abs().mean() for part in vector.split(sizes)) for vector in (own, masked)]
    return masked * (means[0] / means[1] if means[1] > 0 else 1.0)


def localize_and_stitch(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    keep = ceil(Fraction(str(settings.get("density", 0.05))) * stack.shape[1])
    order = torch.sort(stack.abs(), dim=1, descending=True, stable=True).indices[:, :keep]
    mask = torch.zeros_like(stack).scatter(1, order, 1.0)
    return (mask * weights[:, None] * stack).sum(0) / mask.sum(0).clamp(min=1)


def sparse_composition(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    masks = settings.get("masks") or [None] * len(stack)
    kept = [_mask(row, rule) for row, rule in zip(stack, masks, strict=True)]
    for at, rule in enumerate(masks):
        if rule is not None and "support_of" in rule:
            other = rule["support_of"]
            kept[at] = kept[other] & (stack[other] != 0)
    return (torch.stack(kept) * weights[:, None] * stack).sum(0)


def _mask(row: Tensor, rule: Mapping[str, Any] | None) -> Tensor:
    if rule is None or "support_of" in rule:
        return torch.ones_like(row, dtype=torch.bool)
    if "threshold" in rule:
        return row.abs() > rule["threshold"]
    keep = min(rule.get("top", ceil(Fraction(str(rule.get("density", 0.0))) * len(row))), len(row))
    return row.abs() >= row.abs().sort(descending=True).values[keep - 1] if keep else torch.zeros_like(row).bool()


def pcb(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """By the authors' own steps: sort, clamp, normalise, multiply, clamp, normalise."""
    tasks, size = stack.shape
    keep = ceil(Fraction(str(settings.get("density", 0.05))) * size)
    if keep == 0:
        return torch.zeros_like(stack[0])
    ordered = stack.abs().sort(dim=1).values
    low, high = ordered[:, int(size * 0.0001), None], ordered[:, max(int(size * (1 - 0.0001) - 1), 0), None]
    held = stack.abs().clamp(low, high)
    within = torch.exp(tasks * _normalised(held, low, high) ** 2)
    beta = within * torch.tanh(stack * stack.sum(0))
    # The method ranks β as float32, in which more of them are equal.
    beta = (beta / torch.e**tasks).float().double()
    top = beta.amax(1, keepdim=True)
    floor = beta.sort(dim=1, descending=True).values[:, keep - 1, None]
    alone = ((beta >= top) & (beta > 0)).double()
    shares = torch.where(top > floor, _normalised(beta.clamp(floor, top), floor, top), alone)
    total = (weights[:, None] * stack.sign() * held * shares).sum(0)
    return torch.where(shares.sum(0) > 0, total / shares.sum(0), 0.0)


def _normalised(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return torch.where(high > low, (values - low) / (high - low), 0.0)
