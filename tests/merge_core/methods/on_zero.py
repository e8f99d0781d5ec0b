"""Merges of deltas on a base of zeros, so that what comes out is the merged delta."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tests.merge_core.building import merged, mix

ODD_SHAPES = [(), (1,), (5,), (0,), (0, 5), (5, 0), (6, 1), (1, 6), (4, 3), (2, 3, 2, 2)]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def merge(deltas: Sequence[Tensor], method: object, **recipe: object) -> Tensor:
    """One tensor, named x."""
    return merge_models([{"x": delta} for delta in deltas], method, **recipe)["x"]


def merge_models(deltas: Sequence[Mapping[str, Tensor]], method: object, **recipe: object) -> dict[str, Tensor]:
    models = {f"m{i}": delta for i, delta in enumerate(deltas)}
    models["base"] = {name: torch.zeros_like(tensor) for name, tensor in deltas[0].items()}
    weights = tuple(recipe.pop("weights", ()))
    names = [f"m{i}" for i in range(len(deltas))]
    return merged(models, mix(*names, weights=weights, base="base", method=method, **recipe))
