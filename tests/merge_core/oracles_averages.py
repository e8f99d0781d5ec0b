"""Averages on the sphere and their kin, and the methods taken over from mergekit, a second time, in float64.

Slow and obvious, on whole vectors where the engine has inner products only. A method on weights that reads the
base finds it in `settings["base"]`.
"""

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import combinations
from math import ceil, pi, prod
from typing import Any

import torch
from torch import Tensor

Settings = Mapping[str, Any]


def nuslerp(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    t = float(weights[1] / weights.sum())
    return _by_vector(stack, settings.get("per", "tensor"), settings, lambda pair: _arc(pair, t))


def _by_vector(stack: Tensor, per: str, settings: Settings, merge: Callable[[Tensor], Tensor]) -> Tensor:
    """`merge`, from [models, vectors, elements] to [vectors, elements], of the whole, of rows, or of columns."""
    ((_, shape),) = settings["tensors"]
    if per == "tensor" or len(shape) < 2:
        return merge(stack[:, None]).flatten()
    rows = stack.reshape(len(stack), shape[0], prod(shape[1:]))
    return merge(rows).flatten() if per == "row" else merge(rows.mT).mT.flatten()


def _arc(pair: Tensor, t: float) -> Tensor:
    norms = pair.norm(dim=2)
    angle = torch.where(norms.amin(0) > 0, _cosine(*pair).clamp(-1, 1).acos(), 0.0)
    is_straight = (angle < 1e-6) | (pi - angle < 1e-6)
    own = torch.where(is_straight, 1 - t, ((1 - t) * angle).sin() / angle.sin())
    other = torch.where(is_straight, t, (t * angle).sin() / angle.sin())
    return own[:, None] * pair[0] + other[:, None] * pair[1]


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    """Of each vector of [vectors, elements] with the one at its place; 0 where one is 0."""
    norms = a.norm(dim=1) * b.norm(dim=1)
    return torch.where(norms > 0, (a * b).sum(1) / norms, 0.0)


def multislerp(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    """Through the tangent space, as published."""
    shares = weights / weights.sum() if settings.get("normalize", True) else weights
    norms, units = _units(stack)
    mean = shares @ units
    if mean.norm() < 1e-6 or len(stack) == 1:
        return shares @ stack
    mean = mean / mean.norm()
    tangents = units - (units @ mean)[:, None] * mean
    step = shares @ tangents
    turned = mean * torch.cos(step.norm()) + step * torch.sinc(step.norm() / pi)
    return (shares @ norms) * turned


def karcher(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    base = settings["base"] if settings.get("of") == "deltas" else torch.zeros_like(settings["base"])
    shares = weights / weights.sum()
    norms, units = _units(stack - base)
    start = shares @ units
    if start.norm() < 1e-6 or len(stack) == 1:
        return shares @ stack
    point = start / start.norm()
    moving = shares * (norms > 0) / shares[norms > 0].sum()
    for _ in range(settings.get("max_iter", 1000)):
        step = moving @ _logs(point, units)
        if step.norm() < 1e-10:
            break
        point = point * torch.cos(step.norm()) + step * torch.sinc(step.norm() / pi)
        point = point / point.norm()
    return base + (shares @ norms) * point


def _logs(point: Tensor, units: Tensor) -> Tensor:
    """The tangents at `point` that lead to each of `units`; none to the far side of the sphere, and none to 0."""
    straight = units @ point
    across = units - straight[:, None] * point
    distances = across.norm(dim=1)
    angles = torch.atan2(distances, straight)
    leads = (distances > 0) & (pi - angles >= 1e-6)
    return torch.where(leads, angles / distances, 0.0)[:, None] * across


def _units(stack: Tensor) -> tuple[Tensor, Tensor]:
    norms = stack.norm(dim=1)
    return norms, torch.where(norms[:, None] > 0, stack / norms.clamp(min=1e-300)[:, None], 0.0)


def model_stock(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    return _by_vector(stack, "row" if settings.get("per_row") else "tensor", settings, _stock)


def _stock(stack: Tensor) -> Tensor:
    count = len(stack)
    if count == 1:
        return stack[0]
    cosine = sum(_cosine(stack[i], stack[j]) for i, j in combinations(range(count), 2)) / (count * (count - 1) / 2)
    whole = 1 + (count - 1) * cosine
    return torch.where(whole.abs() >= 1e-6, count * cosine / whole, 0.0)[:, None] * stack.mean(0)


def wise_ft(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    alpha = settings.get("alpha", 0.5)
    return (1 - alpha) * settings["base"] + alpha * stack[0]


def passthrough(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    return stack[0] * settings.get("scale", 1.0)


def nearswap(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    t = settings.get("t", 1e-4)
    return stack[0] * torch.where(stack[0] == 0, 0.0, t / stack[0].abs()).clamp(max=1.0)


def sce(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    size, share = stack.shape[1], settings.get("select_topk", 1.0)
    apart = (len(stack) * stack.square().sum(0) - stack.sum(0).square()).clamp(min=0).sqrt().float()
    chosen = torch.sort(apart, descending=True, stable=True).indices[: ceil(Fraction(str(share)) * size)]
    kept = torch.zeros_like(stack)
    kept[:, chosen] = stack[:, chosen]
    shares = kept.square().sum(1, keepdim=True)
    agrees = kept * kept.sum(0).sign() > 0
    return (shares * kept * agrees).sum(0) / (shares * agrees).sum(0).clamp(min=1e-300)


def arcee_fusion(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    ((_, shape),) = settings["tensors"]
    rows = (shape[0], -1) if len(shape) > 1 else (1, -1)
    base, delta = settings["base"].reshape(rows), stack[0].reshape(rows)
    p, q = ((x.softmax(1) + settings.get("eps", 1e-8)) for x in (base + delta, base))
    divergence = (p * (p / q).log()).sum(1, keepdim=True).clamp(min=0)
    importance = (delta.float().abs() * divergence.float()).flatten().double()
    low, middle, high = importance.sort().values[[int(share * (len(importance) - 1)) for share in (0.25, 0.5, 0.75)]]
    return torch.where(importance >= middle + 1.5 * (high - low), stack[0], 0.0)


def ram(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    return _shared(stack, torch.ones(len(stack)), settings)


def ramplus_tl(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    is_changed = stack.abs() > settings.get("epsilon", 1e-5)
    owners = is_changed.sum(0)
    shared, own = (is_changed & (owners > 1)).sum(1), (is_changed & (owners == 1)).sum(1)
    ratio = torch.where(own > 0, shared / own, 0.0).clamp(max=settings.get("alpha", 0.2))
    return _shared(stack, 1 + settings.get("r", 0.1) * ratio, settings)


def _shared(stack: Tensor, gains: Tensor, settings: Settings) -> Tensor:
    is_changed = stack.abs() > settings.get("epsilon", 1e-5)
    owners = is_changed.sum(0)
    values = torch.where(is_changed, stack, 0.0)
    return torch.where(owners == 1, (gains[:, None] * values).sum(0), values.sum(0) / owners.clamp(min=1))
