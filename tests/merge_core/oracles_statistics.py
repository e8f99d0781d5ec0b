"""Statistics for tests, published beside models; and methods that read them, slow and obvious, in float64."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from safetensors.torch import save_file
from torch import Tensor

WIDEST = 300
"""Layers of more inputs have no Gram matrix here: they are averaged."""


def _generator(position: int, name: str) -> torch.Generator:
    return torch.Generator().manual_seed(crc32(json.dumps([position, name]).encode()))


def fisher_of(position: int, name: str, shape: tuple[int, ...]) -> Tensor:
    """Over some orders of magnitude, with zeros, as ingredient `position` has them."""
    generator = _generator(position, name)
    return torch.randn(shape, generator=generator).square() * (torch.rand(shape, generator=generator) < 0.8)


def gram_of(position: int, name: str, shape: tuple[int, ...]) -> Tensor | None:
    """Of 2 · in inputs, the last of which is always 0 where there are several; None for what is no linear layer."""
    if len(shape) != 2 or shape[1] > WIDEST:
        return None
    inputs = torch.randn((2 * shape[1], shape[1]), generator=_generator(position, name))
    inputs[:, 1:][:, -1:] = 0.0
    return inputs.T @ inputs


def write_statistics(folder: Path, position: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Both kinds, beside the model in the folder."""
    grams = {name: gram_of(position, name, shape) for name, shape in shapes.items()}
    save_file({name: fisher_of(position, name, shape) for name, shape in shapes.items()}, folder / "fisher.safetensors")
    save_file(
        {name: gram.contiguous() for name, gram in grams.items() if gram is not None},
        folder / "regmean_gram.safetensors",
    )


def fisher(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    ((name, shape),) = settings["tensors"]
    diagonals = torch.stack([fisher_of(i, name, shape).double().flatten() for i in range(len(stack))])
    shares = weights[:, None] * diagonals.clamp(min=settings.get("floor", 1e-6))
    return (shares * stack).sum(0) / shares.sum(0)


def regmean(stack: Tensor, weights: Tensor, settings: Mapping[str, Any]) -> Tensor:
    """By least squares: the smallest change from the mean that solves the equations."""
    ((name, shape),) = settings["tensors"]
    mean = (weights[:, None] * stack).sum(0) / weights.sum()
    if gram_of(0, name, shape) is None or len(stack) == 1:
        return mean
    grams, targets = torch.zeros(shape[1], shape[1]).double(), torch.zeros(shape[1], shape[0]).double()
    for i, (weight, row) in enumerate(zip(weights, stack, strict=True)):
        gram = gram_of(i, name, tuple(shape)).double()
        share = settings.get("off_diagonal", 0.9)
        shrunk = weight * (share * gram + (1 - share) * torch.diag(gram.diagonal()))
        grams, targets = grams + shrunk, targets + shrunk @ row.reshape(shape).T
    start = mean.reshape(shape).T
    return (start + torch.linalg.pinv(grams, hermitian=True) @ (targets - grams @ start)).T.flatten()
