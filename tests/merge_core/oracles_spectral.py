"""Methods on singular values a second time: torch, float64, formulas as they are printed.

`settings["tensors"]` has the one tensor's name and shape; `stack` is float64 [models, elements].
"""

from collections.abc import Callable, Mapping
from math import ceil
from typing import Any

import torch
from torch import Tensor

Settings = Mapping[str, Any]
Merge = Callable[[Tensor, Settings], Tensor]
Oracle = Callable[[Tensor, Tensor, Settings], Tensor]


def _of_matrices(merge: Merge, stack: Tensor, weights: Tensor, settings: Settings, narrowest: int = 1) -> Tensor:
    ((_, shape),) = settings["tensors"]
    weighted = weights[:, None] * stack
    if len(shape) != 2 or min(shape) < narrowest:
        return weighted.mean(0)
    return merge(weighted.reshape(len(stack), *shape), settings).flatten()


def _svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Without what is rounding noise beside the largest singular value."""
    u, sigma, vt = torch.linalg.svd(matrix, full_matrices=False)
    rank = int((sigma > 1e-6 * sigma.max()).sum()) if sigma.numel() else 0
    return u[:, :rank], sigma[:rank], vt[:rank]


def _polar(matrix: Tensor) -> Tensor:
    u, _, vt = _svd(matrix)
    return u @ vt


def tsv_m(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    return _of_matrices(_tsv_m, stack, weights, settings, narrowest=len(stack))


def _tsv_m(taus: Tensor, settings: Settings) -> Tensor:
    k = min(taus.shape[1:]) // len(taus)
    parts = [_svd(tau) for tau in taus]
    u = _polar(torch.cat([u[:, :k] for u, _, _ in parts], dim=1))
    v = _polar(torch.cat([vt[:k].T for _, _, vt in parts], dim=1))
    return u @ torch.diag(torch.cat([sigma[:k] for _, sigma, _ in parts])) @ v.T


def iso_c(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    return _of_matrices(_iso_c, stack, weights, settings)


def _iso_c(taus: Tensor, settings: Settings) -> Tensor:
    u, sigma, vt = _svd(taus.sum(0))
    return sigma.mean() * (u @ vt) if len(sigma) else torch.zeros_like(taus[0])


def iso_cts(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    return _of_matrices(_iso_cts, stack, weights, settings)


def _iso_cts(taus: Tensor, settings: Settings) -> Tensor:
    r, count = min(taus.shape[1:]), len(taus)
    own = round((r - int(settings.get("common", 0.8) * r)) / count)
    k = max(r - own * count, 0)
    u, sigma, vt = _svd(taus.sum(0))
    parts = [(u[:, :k], sigma[:k], vt[:k])]
    for tau in taus:
        rest = tau - parts[0][0] @ (parts[0][0].T @ tau)
        u, sigma, vt = torch.linalg.svd(rest, full_matrices=False)
        n = min(own, int((sigma > 1e-6 * max(float(sigma.max()), float(tau.norm()))).sum()))
        parts.append((u[:, :n], sigma[:n], vt[:n]))
    u, v = (_polar(torch.cat(side, dim=1)) for side in ([p[0] for p in parts], [p[2].T for p in parts]))
    sigma = torch.cat([p[1] for p in parts])
    return sigma.mean() * (u @ v.T) if len(sigma) else torch.zeros_like(taus[0])


def knots(ties: Callable[[Tensor, Tensor, Settings], Tensor]) -> Callable[[Tensor, Tensor, Settings], Tensor]:
    """KnOTS with another oracle for what happens to the aligned parts."""

    def merge(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
        ((_, shape),) = settings["tensors"]
        if len(shape) != 2:
            return (weights[:, None] * stack).mean(0)
        taus = stack.reshape(len(stack), *shape)
        u, sigma, vt = torch.linalg.svd(torch.cat(list(taus), dim=1), full_matrices=False)
        rank = int((sigma > 1e-5).sum())
        if rank == 0:
            return torch.zeros_like(stack[0])
        parts = torch.stack([sigma[:rank, None] * part for part in vt[:rank].split(shape[1], dim=1)])
        parts = parts.float().double().reshape(len(stack), -1)
        if settings.get("merge_by") == "task_arithmetic":
            return (u[:, :rank] @ (weights @ parts).reshape(rank, -1)).flatten()
        return (u[:, :rank] @ ties(parts, weights, settings).reshape(rank, -1)).flatten()

    return merge


def swudi(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    return _of_matrices(_swudi, stack, weights, settings)


def _swudi(taus: Tensor, settings: Settings) -> Tensor:
    taus = torch.stack([tau for tau in taus if tau.norm() > 0]) if taus.any() else taus[:1]
    norms = taus.flatten(1).norm(dim=1).clamp(min=1e-300)
    factor = torch.cat([tau / norm for tau, norm in zip(taus, norms, strict=True)])
    eigenvalues, q = _eigen(factor)
    kept = ceil(round(settings.get("share", 0.65) * int((eigenvalues >= 1e-8).sum()), 6))
    eigenvalues, q = eigenvalues[:kept], q[:, :kept]
    time = settings.get("time")
    f = torch.ones_like(eigenvalues) if time is None else 1 - torch.exp(-eigenvalues * time)
    start = taus.sum(0)
    dq = sum(tau @ (tau.T @ (tau @ q)) / norm**2 for tau, norm in zip(taus, norms, strict=True))
    return start - start @ q @ torch.diag(f) @ q.T + dq @ torch.diag(f / eigenvalues) @ q.T


def _eigen(factor: Tensor) -> tuple[Tensor, Tensor]:
    """Of factorᵀ factor, by way of the smaller of the two products."""
    if factor.shape[1] <= 2000:
        eigenvalues, q = torch.linalg.eigh(factor.T @ factor)
    else:
        eigenvalues, p = torch.linalg.eigh(factor @ factor.T)
        q = factor.T @ p / eigenvalues.clamp(min=1e-300).sqrt()
    return eigenvalues.flip(0), q.flip(1)


def svc(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
    narrowest = len(stack) if settings.get("of") == "tsv_m" else 1
    return _of_matrices(_svc, stack, weights, settings, narrowest)


def _svc(taus: Tensor, settings: Settings) -> Tensor:
    merges = {"tsv_m": _tsv_m, "swudi": _swudi}
    of = settings.get("of", "task_arithmetic")
    u, sigma, vt = _svd(merges[of](taus, {}) if of in merges else taus.sum(0))
    calibrated = sigma.clone()
    for r in range(len(sigma)):
        own = [u[:, r] @ tau for tau in taus]
        shares = [float(sigma[r] * vt[r] @ a / (a @ a)) if a.norm() > 0 else 0.0 for a in own]
        calibrated[r] *= len(taus) / sum(max(settings.get("alpha", 0.1), share) for share in shares)
    return u @ (calibrated[:, None] * vt)


def core_space(weighted_sum: Oracle, linear: Oracle) -> Oracle:
    """In full space, which is the same for the methods that turn with their inputs."""

    def merge(stack: Tensor, weights: Tensor, settings: Settings) -> Tensor:
        inner = settings.get("method", "tsv_m")
        if inner == "task_arithmetic":
            return weighted_sum(stack, weights, settings)
        return tsv_m(stack, weights, settings) if inner == "tsv_m" else linear(stack, weights, settings)

    return merge
