"""The edges of every method: one input, inputs equal to the base, density 0 and 1; over scalars, vectors, nothing."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from merge_core.methods import METHODS, Method
from tests.merge_core.building import built, mix, write_adapter, write_model
from tests.merge_core.oracles_statistics import write_statistics

SHAPES = {"scalar": (), "one": (1,), "vector": (5,), "none": (0,), "no_rows": (0, 3), "no_columns": (3, 0)}
MATRICES = {"cell": (1, 1), "matrix": (4, 3), "square": (3, 3)}

NOT_ITSELF = {
    "consensus_ta": "an entry needs two owners",
    "wise_ft": "half of it, on the way from the base",
    "nearswap": "only what is near the base is taken",
    "arcee_fusion": "only what matters is taken",
    "iso_c": "its singular values become their mean",
    "iso_cts": "its singular values become their mean",
}
"""Methods that with their defaults do not return a single input; what they do is in their docstrings and own tests."""

TRIMMING = {"approximate_factors": {"merge_by": "ties"}}
"""What a method needs beside its density for that to matter."""

of_every_method = pytest.mark.parametrize("method", METHODS, ids=lambda method: method.title())
with_density = [method for method in METHODS if "density" in method.model_fields]


def grid(shape: tuple[int, ...], seed: int) -> Tensor:
    """Quarters, so that differences are exact."""
    return torch.randint(-8, 9, shape, generator=torch.Generator().manual_seed(seed)) / 4


def base_of(method: type[Method]) -> dict[str, Tensor]:
    shapes = {**SHAPES, **MATRICES, "kernel": (2, 3, 2, 2)}
    return {f"{name}.weight": grid(shape, i) for i, (name, shape) in enumerate(shapes.items())}


def merged(method: type[Method], settings: dict[str, Any], count: int, step: float) -> dict[str, Tensor]:
    """`count` models or adapters that are the base moved by multiples of `step`, on the base."""
    with tempfile.TemporaryDirectory() as folder:
        root, base = Path(folder), base_of(method)
        write_model(root / "base", base)
        for position in range(count):
            write_moved(root / f"m{position}", method, step, position)
            write_statistics(root / f"m{position}", position, {name: tuple(t.shape) for name, t in base.items()})
        names = [f"m{position}" for position in range(count)]
        weights = (1.0,) * count
        return built(root, mix(*names, weights=weights, base="base", method={"name": method.title(), **settings}))


def write_moved(folder: Path, method: type[Method], step: float, position: int) -> None:
    if method.complete_inputs:
        base = base_of(method)
        write_model(folder, {name: t + step * grid(tuple(t.shape), 90 + position) for name, t in base.items()})
        return
    factors = {}
    for name, (rows, columns) in MATRICES.items():
        factors[name] = (step * torch.ones(1, columns), torch.ones(rows, 1))
    write_adapter(folder, factors)


def moved(method: type[Method], step: float) -> dict[str, Tensor]:
    base = base_of(method)
    if method.complete_inputs:
        return {name: t + step * grid(tuple(t.shape), 90) for name, t in base.items()}
    return {name: t + step * (name.removesuffix(".weight") in MATRICES) for name, t in base.items()}


def counts(method: type[Method]) -> int:
    return max(method.fewest_inputs, min(2, method.most_inputs or 2))


@of_every_method
def test_inputs_equal_to_the_base_give_the_base(method: type[Method]) -> None:
    for settings in ({}, {"density": 0.0}, {"density": 1.0}) if method in with_density else ({},):
        found = merged(method, settings, counts(method), step=0.0)
        for name, tensor in base_of(method).items():
            torch.testing.assert_close(found[name], tensor, rtol=3e-7, atol=0.0, msg=f"{settings} {name}")


@of_every_method
def test_one_input_comes_back_as_it_is(method: type[Method]) -> None:
    if method.fewest_inputs > 1 or method.title() in NOT_ITSELF:
        assert method.fewest_inputs > 1 or NOT_ITSELF[method.title()]
        return
    found = merged(method, {"density": 1.0} if method in with_density else {}, 1, step=1.0)
    for name, tensor in moved(method, 1.0).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("method", with_density, ids=lambda method: method.title())
def test_density_zero_keeps_nothing(method: type[Method]) -> None:
    found = merged(method, {"density": 0.0, **TRIMMING.get(method.title(), {})}, counts(method), step=1.0)
    trimmed = MATRICES if method.reads == "matrix" else [*SHAPES, *MATRICES, "kernel"]
    for name in trimmed:
        assert torch.equal(found[f"{name}.weight"], base_of(method)[f"{name}.weight"]), name
