"""Methods that thin task vectors out, a second time: slow and obvious, whole tensors in float64."""

from collections.abc import Mapping
from fractions import Fraction
from math import ceil, floor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kernels.philox import uniform

SEED = 0
"""The seed of a recipe that names none."""


def dare_linear(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    return _summed(_dare(stack, settings), weights, settings)


def dare_ties(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Signs are elected before the division, so that votes which cancel do so exactly."""
    merged = elected(_dare(stack, {**settings, "rescale": False}), weights, settings)
    return merged / settings["density"] if settings.get("rescale", True) else merged


def della_linear(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    return _summed(_della(stack, settings), weights, settings)


def della(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    return elected(_della(stack, settings), weights, settings)


def breadcrumbs(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    return _summed(_band(stack, settings), weights, settings)


def breadcrumbs_ties(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    return elected(_band(stack, settings), weights, settings)


def elected(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """One element at a time in words: those whose vote has the sign of the sum of votes."""
    values = weights[:, None] * stack
    is_peft = settings.get("convention") == "peft"
    votes = stack.sign() if settings.get("votes") == "frequency" else stack if is_peft else values
    signs = votes.sum(0).sign()
    agrees = votes * torch.where((signs == 0) & is_peft, 1.0, signs) > 0
    chosen = torch.where(agrees, values, 0.0)
    aggregate = settings.get("aggregate", "mean")
    if aggregate == "max":
        return chosen.gather(0, chosen.abs().argmax(0)[None])[0]
    shares = (agrees * (torch.ones_like(weights) if is_peft else weights.abs())[:, None]).sum(0)
    return chosen.sum(0) / shares.clamp(min=1e-300) if aggregate == "mean" else chosen.sum(0)


def _summed(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    total = (weights[:, None] * stack).sum(0)
    return total / weights.sum() if settings.get("normalize", False) else total


def _draws(stack: Tensor, settings: Mapping[str, Any]) -> Tensor:
    ((name, _),) = settings["tensors"]
    rows = [uniform(SEED, name, i, 0, np.empty(stack.shape[1], np.float32)) for i in range(len(stack))]
    return torch.from_numpy(np.stack(rows)).double()


def _dare(stack: Tensor, settings: Mapping[str, Any]) -> Tensor:
    density = settings.get("density", 1.0)
    if density == 0:
        return torch.zeros_like(stack)
    divisor = density if settings.get("rescale", True) else 1.0
    return torch.where(_draws(stack, settings) < density, stack / divisor, 0.0)


def _della(stack: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """Row by row; an entry's rank is how many of the row are smaller, or equal and before it."""
    density = settings.get("density", 1.0)
    epsilon = settings.get("epsilon") or min(0.15, 2 * density, 2 * (1 - density)) * ("epsilon" not in settings)
    ((_, shape),) = settings["tensors"]
    width = stack[0].numel() // shape[0] if len(shape) > 1 else stack[0].numel()
    matrix = stack.abs().reshape(-1, width)
    ranks = matrix.argsort(dim=1, stable=True).argsort(dim=1)
    places = ranks / (width - 1) if width > 1 else torch.full_like(matrix, 0.5)
    # A probability is a float32, as the draws are: they meet exactly.
    chances = (density - epsilon / 2 + epsilon * places.double()).float().double().reshape(stack.shape)
    kept = stack / chances if settings.get("rescale", True) else stack
    return torch.where(_draws(stack, settings) < chances, kept, 0.0)


def _band(stack: Tensor, settings: Mapping[str, Any]) -> Tensor:
    size = stack.shape[1]
    first = floor(Fraction(str(settings.get("gamma", 0.01))) * size)
    keep = ceil(Fraction(str(settings.get("density", 1.0))) * size)
    order = torch.sort(stack.abs(), dim=1, descending=True, stable=True).indices[:, first : first + keep]
    return torch.zeros_like(stack).scatter(1, order, stack.gather(1, order))
