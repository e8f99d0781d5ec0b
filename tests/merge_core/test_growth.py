"""Files that are read while they are written: what is told to be complete is complete, and grows steadily."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from merge_core.execute import execute
from merge_core.growth import Growth
from merge_core.layout import Shard, lay_out
from merge_core.plan import Plan
from merge_core.tensors import DType, TensorSpec
from tests.merge_core.building import mix, planned, write_adapter, write_model

PIECES = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "a", "b")):
        generator = torch.Generator().manual_seed(seed)
        tensors = {f"layer.{i}.weight": torch.randn(64, 1000 + i, generator=generator) for i in range(12)}
        ids = {f"layer.{i}.ids": torch.arange(50_000) for i in (3, 7)}
        write_model(folder / name, tensors | ids | {"empty": torch.zeros(0, 4)})
    factors = {"layer.0": (torch.ones(2, 1000), torch.ones(64, 2))}
    write_adapter(folder / "lora", factors)
    return folder


def arithmetic(**fields: Any) -> dict[str, Any]:
    return mix("a", "b", weights=(0.5, 0.3), base="base", **fields)


class Reader:
    """Looks at the files whenever the build says how far it is."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self.growth = Growth(plan.shards)
        self.steps: dict[str, list[int]] = {shard.name: [] for shard in plan.shards}
        self._folder = folder
        self._seen = {shard.name: b"" for shard in plan.shards}

    def look(self, _done: int, _total: int) -> None:
        for name, steps in self.steps.items():
            ready = self.growth.ready(name)
            self._seen[name] = (self._folder / f"{name}.partial").read_bytes()[:ready]
            assert len(self._seen[name]) == ready >= (steps[-1] if steps else 0)
            steps.append(ready)

    def check(self, name: str) -> None:
        """What was seen before the end is how the file begins."""
        content = (self._folder / name).read_bytes()
        assert content.startswith(self._seen[name])
        assert self.growth.ready(name) == len(content)


@pytest.mark.parametrize(
    "method",
    [{"name": "linear"}, {"name": "ties", "density": 0.3}, {"name": "ties", "density": 0.3, "scope": "model"}],
    ids=lambda method: "-".join(map(str, method.values())),
)
@pytest.mark.parametrize("threads", [1, 3])
def test_what_is_told_to_be_there_is_how_the_file_begins(root: Path, tmp_path: Path, method: Any, threads: int) -> None:
    plan = planned(root, arithmetic(method=method, output={"max_shard_bytes": 1_200_000}))
    reader = Reader(plan, tmp_path / "out")
    execute(plan, tmp_path / "out", threads=threads, durable=False, growth=reader.growth, on_progress=reader.look)
    assert len(plan.shards) > 1
    for shard in plan.shards:
        reader.check(shard.name)


def test_a_file_grows_from_its_start_though_its_tensors_are_surveyed_together(root: Path, tmp_path: Path) -> None:
    method = {"name": "ties", "density": 0.3, "scope": "model"}
    plan = planned(root, arithmetic(method=method))
    reader = Reader(plan, tmp_path / "out")
    execute(plan, tmp_path / "out", threads=1, durable=False, growth=reader.growth, on_progress=reader.look)
    [steps] = reader.steps.values()
    largest = max(slot.spec.nbytes for slot in plan.shards[0].slots)
    begun = [step for step in steps if step > len(plan.shards[0].header)]
    assert max(after - before for before, after in pairwise(begun)) <= 4 * largest


def test_one_shard_of_several_is_followed_alone(root: Path, tmp_path: Path) -> None:
    plan = planned(root, arithmetic(method="linear", output={"max_shard_bytes": 1_200_000}))
    growth = Growth(plan.shards[1:2])
    [path] = execute(plan, tmp_path / "out", durable=False, shards=[1], growth=growth)
    assert growth.ready(path.name) == path.stat().st_size


def test_only_files_that_are_known_but_for_their_weights_are_foreseen(root: Path) -> None:
    assert planned(root, arithmetic(method="linear")).is_foreseen
    wish = {"method": "linear", "base": "base", "ingredients": [{"source": "lora"}]}
    for kind in ("lora", "patch", "dense", "ternary"):
        assert not planned(root, {**wish, "output": {"kind": kind}}).is_foreseen


def two_tensors() -> Shard:
    specs = [TensorSpec("a", DType.U8, (PIECES,)), TensorSpec("b", DType.U8, (0,)), TensorSpec("c", DType.U8, (3,))]
    [shard] = lay_out(specs, 1 << 20, {})
    return shard


@given(st.permutations(range(PIECES // 2 + 2)))
def test_parts_may_come_in_any_order(order: list[int]) -> None:
    """A growth and the obvious second version: a set of the bytes that are there."""
    shard = two_tensors()
    growth = Growth([shard])
    assert growth.ready(shard.name) == 0
    growth.begin()
    parts = [("a", start, 2) for start in range(0, PIECES, 2)] + [("b", 0, 0), ("c", 0, 3)]
    offsets = {slot.spec.name: slot.offset for slot in shard.slots}
    there = set(range(len(shard.header)))
    for position in order:
        name, start, nbytes = parts[position]
        growth.wrote(name, start, nbytes)
        there |= set(range(offsets[name] + start, offsets[name] + start + nbytes))
        assert growth.ready(shard.name) == next(byte for byte in range(shard.nbytes + 1) if byte not in there)
    assert growth.ready(shard.name) == shard.nbytes
