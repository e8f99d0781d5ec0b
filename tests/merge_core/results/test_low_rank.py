"""Adapters summed as one product: the same as adding their deltas up, to rounding, and the same bytes in any chunks."""

from pathlib import Path
from typing import Any

import pytest
import torch

from merge_core import plan, run
from merge_core.results.low_rank import LowRankSum
from tests.merge_core.building import built, mix, planned, raw, relative_rms, write_adapter, write_model

SHAPES = {"a.weight": (70, 130), "b.weight": (9, 5)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A base of two matrices and a vector, and three adapters of different ranks; the last leaves one alone."""
    torch.manual_seed(0)
    write_model(tmp_path / "base", {name: torch.randn(shape) for name, shape in SHAPES.items()} | {"c": torch.ones(3)})
    for rank, names in ((1, SHAPES), (4, SHAPES), (3, ["a.weight"])):
        factors = {name.removesuffix(".weight"): SHAPES[name] for name in names}
        pairs = {name: (torch.randn(rank, cols), torch.randn(rows, rank)) for name, (rows, cols) in factors.items()}
        write_adapter(tmp_path / f"rank{rank}", pairs, r=rank, lora_alpha=2 * rank)
    return tmp_path


def wish(**recipe: Any) -> dict[str, Any]:
    return mix("rank1", "rank4", "rank3", weights=(0.5, -0.2, 1.5), base="base", **recipe)


RECIPES = [
    wish(method="task_arithmetic"),
    wish(method="task_arithmetic", scale=0.3),
    wish(method={"name": "task_arithmetic", "normalize": True}, dtype="bfloat16"),
    wish(method="selma"),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_sum_is_that_of_the_deltas(root: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    found = built(root, recipe)
    assert isinstance(opened(root, recipe, "a.weight"), LowRankSum)
    monkeypatch.setattr(run, "shortcut", lambda _: None)
    expected = built(root, recipe)
    # float32 sums of up to 8 products in another order; in bfloat16 an element on the edge may round the other way.
    tolerance = 1e-3 if recipe.get("dtype") else 2e-7
    assert all(relative_rms(found[name], expected[name]) < tolerance for name in SHAPES)
    assert raw(found["c"]) == raw(expected["c"])


@pytest.mark.parametrize("recipe", RECIPES)
def test_chunks_and_threads_do_not_show(root: Path, recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {name: raw(tensor) for name, tensor in built(root, recipe).items()}
    for chunk, threads in ((64, 1), (1000, 4)):
        monkeypatch.setattr(plan, "CHUNK", chunk)
        assert {name: raw(tensor) for name, tensor in built(root, recipe, threads).items()} == expected


def test_a_method_that_does_more_than_add_up_sees_rows(root: Path) -> None:
    assert not isinstance(opened(root, wish(method="ties"), "a.weight"), LowRankSum)


def opened(root: Path, recipe: dict[str, Any], name: str) -> object:
    return run.Run(planned(root, recipe).tensors[name]).open_result()
