"""Ternary ingredients, merged from their bitplanes: to the bit what the same deltas give when they are made dense."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from merge_core import run
from merge_core.results.ternary import TernaryResult
from tests.merge_core.building import FLOATS, built, execute, mix, planned, raw, write_model

EXPERTS = ["first", "second", "third"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A base with every float type and awkward zeros, and three experts compressed from fine-tunes of it."""
    torch.manual_seed(0)
    base = {str(dtype): torch.randn(3, 701).to(dtype) for dtype in FLOATS} | {"one": torch.tensor(2.0)}
    for tensor in base.values():
        tensor.reshape(-1)[::5] = -0.0
    write_model(tmp_path / "base", base)
    for position, expert in enumerate(EXPERTS):
        tuned = {name: (t + 0.1 * torch.randn(t.shape)).to(t.dtype) for name, t in base.items()}
        if position == 1:
            tuned["one"] = base["one"]
        write_model(tmp_path / f"tuned-{expert}", tuned)
        output = {"kind": "ternary", "density": 0.3, "form": "hot" if position else "cold", "scope": "tensor"}
        wish = mix(f"tuned-{expert}", base="base", method="passthrough", output=output)
        execute(planned(tmp_path, wish), tmp_path / expert, durable=False)
    return tmp_path


def results(root: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, torch.Tensor]]:
    """From bitplanes, then dense."""
    yield built(root, recipe)
    with monkeypatch.context() as patched:
        patched.setattr(run, "shortcut", lambda _: None)
        patched.setattr(run, "_settled", lambda merge: None)
        yield built(root, recipe)


RECIPES = [
    {"method": "task_arithmetic", "scale": 0.7},
    {"method": {"name": "task_arithmetic", "normalize": True}, "weights": (0.2, 0.5, -0.1)},
    {"method": "linear", "weights": (0.2, 0.5, 0.3)},
    {"method": {"name": "linear", "normalize": False}, "dtype": "bfloat16"},
    {"method": "selma"},
    *(
        {"method": {"name": "ties", "density": density, "convention": convention, "aggregate": aggregate}}
        for density in (0.2, 0.4, 1.0)
        for convention in ("stockpot", "original", "peft", "mergekit")
        for aggregate in ("mean", "sum", "max")
    ),
    {"method": {"name": "ties", "votes": "frequency"}, "weights": (1.0, -2.0, 0.0), "scale": 0.3},
    {"method": {"name": "ties", "scope": "model"}},
    {"method": {"name": "ties", "density": 0.3, "scope": "model"}},
    {"method": {"name": "dare_ties", "density": 0.5}},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=str)
def test_a_merge_of_ternary_experts_is_that_of_dense_ones_bit_for_bit(
    recipe: dict[str, Any], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast, dense = results(root, mix(*EXPERTS, base="base", **recipe), monkeypatch)
    assert all(raw(fast[name]) == raw(dense[name]) for name in dense)


@pytest.mark.parametrize(
    "method", ["task_arithmetic", {"name": "ties", "density": 0.3}, {"name": "ties", "density": 0.2}]
)
def test_such_a_merge_reads_bitplanes_only(method: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dense(self: object, start: int, size: int) -> None:
        raise AssertionError("a chunk was made dense")

    monkeypatch.setattr(run.Reader, "chunk", dense)
    assert built(root, mix(*EXPERTS, base="base", method=method))


def test_an_ingredient_of_another_form_leaves_the_merge_to_the_dense_path(root: Path) -> None:
    plan = planned(root, mix("first", "tuned-second", base="base", method="task_arithmetic"))
    merge = plan.tensors["torch.float32"]
    assert not isinstance(run.Run(merge).open_result(), TernaryResult)
    back = built(root, mix("first", "tuned-second", base="base", method="task_arithmetic", weights=(0.0, 1.0)))
    assert back["torch.float32"].shape == (3, 701)
