"""Random recipes over random small models: refused in planning, or carried out to the end."""

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, event, given, settings
from hypothesis import strategies as st

from merge_core.errors import CapacityError, InputError
from merge_core.execute import execute
from merge_core.methods import METHODS, Method
from merge_core.plan import Plan
from tests.merge_core.building import file_hashes, loaded, planned
from tests.merge_core.random_recipes import Stock, recipes, stocks

EXAMPLES = max(settings().max_examples // 5, 1)
"""For each method; in all, some hundreds."""

FOUND = (Phase.explicit, Phase.generate)
"""An example as it was found says enough; making it smaller can take minutes."""


def _planned(root: Path, recipe: dict[str, Any], memory_bytes: int | None) -> Plan | None:
    try:
        return planned(root, recipe, memory_bytes)
    except (InputError, CapacityError) as error:
        event(f"refused: {error.message[:60]}")
        return None


def check(stock: Stock, recipe: dict[str, Any], memory_bytes: int | None = None) -> None:
    """Plan the recipe; where that succeeds, build it twice, and find what the plan has said, the same both times."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        stock.write(root)
        plan = _planned(root, recipe, memory_bytes)
        if plan is None:
            return
        json.dumps(plan.describe())
        execute(plan, root / "one", threads=1, durable=False)
        execute(plan, root / "two", threads=3, durable=False)
        event(f"carried out: {recipe['output']['kind']}")
        assert file_hashes(root / "one") == file_hashes(root / "two")
        _compare(plan, root / "one")


def _compare(plan: Plan, folder: Path) -> None:
    """The files and tensors that the plan has announced; other kinds than checkpoints are known when written."""
    assert {shard.name for shard in plan.shards} <= {path.name for path in folder.iterdir()}
    if plan.recipe.output.kind == "checkpoint":
        found = {name: tuple(tensor.shape) for name, tensor in loaded(folder).items()}
        assert found == {name: tensor.spec.shape for name, tensor in plan.tensors.items()}
        assert all((folder / shard.name).stat().st_size == shard.nbytes for shard in plan.shards)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.title())
def test_what_planning_accepts_of_a_method_is_carried_out(method: type[Method]) -> None:
    @settings(max_examples=EXAMPLES, phases=FOUND)
    @given(stock=stocks(), recipe=recipes((method,)))
    def carried_out(stock: Stock, recipe: dict[str, Any]) -> None:
        check(stock, recipe)

    carried_out()


@settings(phases=FOUND)
@given(stock=stocks(), recipe=recipes(), memory_bytes=st.sampled_from([1000, 1_000_000, 20_000_000, 10**9]))
def test_what_planning_accepts_within_a_memory_is_carried_out(
    stock: Stock, recipe: dict[str, Any], memory_bytes: int
) -> None:
    check(stock, recipe, memory_bytes)
