"""Small matrices and one merge of them, for the tests of methods on singular values."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from merge_core.methods import Chunk, Method

Oracle = Callable[[Tensor, Tensor, Mapping[str, Any]], Tensor]


def merged_delta(method: Method, *deltas: Tensor, weights: tuple[float, ...] = (), seed: int = 0) -> Tensor:
    """What the method makes of the float32 deltas, without a file in between."""
    rows = torch.stack([delta.flatten() for delta in deltas]).float().numpy()
    chunk = Chunk(rows.copy(), None, 0, "w", tuple(deltas[0].shape), seed)
    found = method.merge(chunk, np.array(weights or [1.0] * len(deltas), dtype=np.float32), None)
    return torch.from_numpy(found).reshape(deltas[0].shape)


def by_oracle(oracle: Oracle, *deltas: Tensor, weights: tuple[float, ...] = (), **settings: object) -> Tensor:
    """The same by a second version in float64."""
    stack = torch.stack([delta.flatten() for delta in deltas]).double()
    exact = torch.tensor(weights or [1.0] * len(deltas), dtype=torch.float64)
    found = oracle(stack, exact, {**settings, "tensors": [("w", tuple(deltas[0].shape))]})
    return found.reshape(deltas[0].shape)


def random_deltas(count: int, m: int, n: int, rank: int | None = None, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    if rank is None:
        return [torch.randn(m, n, generator=generator) for _ in range(count)]
    pairs = [
        (torch.randn(m, rank, generator=generator), torch.randn(rank, n, generator=generator)) for _ in range(count)
    ]
    return [b @ a for b, a in pairs]


def singular_values(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix.double())


def is_near(found: Tensor, expected: Tensor, tolerance: float = 3e-7) -> bool:
    """Within some roundings to float32, relative to the whole."""
    size = float(expected.double().norm())
    return float((found.double() - expected.double()).norm()) <= tolerance * max(size, 1e-9)
