"""What surveys have found is kept, is the same when read back, and is not believed when it is broken."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch

from merge_core.execute import execute
from merge_core.methods import METHODS, Method
from merge_core.methods.ties import Ties
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe
from merge_core.sources import Source, folder_source
from tests.merge_core.building import file_hashes, mix, write_model
from tests.merge_core.oracles import TRIALS

SURVEYING = [method for method in METHODS if method.rounds > 0]
CASES = [(method, trial) for method in SURVEYING for trial in TRIALS[method.title()]]
TIES = {"name": "ties", "density": 0.3}
MODEL_TIES = TIES | {"scope": "model"}


class Shelf:
    """Records in memory, and how often they were asked for."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.puts = 0

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]:
        return {key: self.kept[key] for key in keys if key in self.kept}

    def put(self, records: Mapping[str, bytes]) -> None:
        self.kept.update(records)
        self.puts += 1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    generator = torch.Generator().manual_seed(0)
    for name in ("base", "m0", "m1", "m2", "m3"):
        shapes = {"a.weight": (40, 500), "b.bias": (300,), "c.scale": (), "d.empty": (0, 4), "e.weight": (7, 11)}
        grid = {key: torch.randint(-9, 10, shape, generator=generator) / 8 for key, shape in shapes.items()}
        write_model(folder / name, {key: value.bfloat16() for key, value in grid.items()})
    return folder


def planned(root: Path, recipe: Mapping[str, Any]) -> Plan:
    """As a service plans: every file's content is known by its hash."""

    @cache
    def marked(name: str) -> Source:
        source = folder_source(name, root)
        return replace(
            source, marks={path: sha256(file.read_bytes()).hexdigest() for path, file in source.files.items()}
        )

    return make_plan(Recipe.parse(dict(recipe)), marked)


def build(plan: Plan, folder: Path, shelf: Shelf | None = None, **options: Any) -> tuple[Mapping[str, str], int]:
    """The files' hashes, and the passes over the output in bytes: one for the merge, one for each survey."""
    totals = set()
    execute(plan, folder, durable=False, surveys=shelf, on_progress=lambda done, total: totals.add(total), **options)
    [total] = totals
    return file_hashes(folder), total


def merged_bytes(plan: Plan) -> int:
    return sum(tensor.spec.nbytes for tensor in plan.tensors.values())


@pytest.mark.parametrize(("method", "trial"), CASES, ids=[f"{m.title()}-{t.settings}" for m, t in CASES])
def test_no_method_surveys_twice_and_the_bytes_are_the_same(
    method: type[Method], trial: Any, root: Path, tmp_path: Path
) -> None:
    names = [f"m{position}" for position in range(len(trial.weights))]
    settings = {"name": method.title(), **trial.settings}
    plan = planned(root, mix(*names, weights=trial.weights, base="base", method=settings))
    shelf = Shelf()
    alone, _ = build(plan, tmp_path / "alone")
    first, _ = build(plan, tmp_path / "first", shelf)
    again, passed = build(plan, tmp_path / "again", shelf)
    assert alone == first == again
    assert passed == merged_bytes(plan)


@pytest.mark.parametrize("method", [one for one in SURVEYING if one.survey_ignores], ids=lambda one: one.title())
def test_what_a_method_says_that_its_survey_ignores_is_ignored(
    method: type[Method], root: Path, tmp_path: Path
) -> None:
    for number, trial in enumerate(TRIALS[method.title()]):
        count = len(trial.weights)
        choices: dict[str, list[Any]] = {
            "weights": [(1.0, 1.0, 1.0)[:count], (0.3, -2.0, 0.7)[:count]],
            "aggregate": ["mean", "max"],
            "with_abs": [[True, False, True][:count], [False] * count],
        }
        for ignored in sorted(method.survey_ignores):
            shelf = Shelf()
            for choice in choices[ignored]:
                weights = choice if ignored == "weights" else (1.0,) * count
                settings = {"name": method.title(), **trial.settings}
                settings |= {} if ignored == "weights" else {ignored: choice}
                if settings.get("normalize"):
                    continue
                names = [f"m{position}" for position in range(count)]
                plan = planned(root, mix(*names, weights=weights, base="base", method=settings))
                folder = tmp_path / f"{number}-{ignored}-{choice}"
                assert build(plan, folder / "with", shelf)[0] == build(plan, folder / "without")[0]
            assert shelf.puts <= 1


@pytest.mark.parametrize(
    "other",
    [
        lambda: mix("m0", "m2", base="base", method=TIES),
        lambda: mix("m1", "m0", base="base", method=TIES),
        lambda: mix("m0", "m1", base="m3", method=TIES),
        lambda: mix("m0", "m1", base="base", method=TIES | {"density": 0.31}),
    ],
    ids=["another input", "another order", "another base", "another density"],
)
def test_other_inputs_or_parameters_are_surveyed_anew(
    other: Callable[[], dict[str, Any]], root: Path, tmp_path: Path
) -> None:
    shelf = Shelf()
    build(planned(root, mix("m0", "m1", base="base", method=TIES)), tmp_path / "one", shelf)
    plan = planned(root, other())
    found, passed = build(plan, tmp_path / "two", shelf)
    assert passed > merged_bytes(plan)
    assert found == build(plan, tmp_path / "alone")[0]


@pytest.mark.parametrize("method", [TIES, MODEL_TIES, {"name": "pcb"}], ids=["tensor", "model", "pcb"])
def test_shards_built_one_by_one_survey_what_none_before_has(method: Any, root: Path, tmp_path: Path) -> None:
    recipe = mix("m0", "m1", base="base", method=method, output={"max_shard_bytes": 700})
    plan, shelf = planned(root, recipe), Shelf()
    whole, _ = build(plan, tmp_path / "whole")
    passes = []
    for position, shard in enumerate(plan.shards):
        found, passed = build(plan, tmp_path / str(position), shelf, shards=[position])
        assert found == {shard.name: whole[shard.name]}
        passes.append(passed - sum(slot.spec.nbytes for slot in shard.slots))
    assert passes[0] > 0
    assert len(plan.shards) > 2
    if method is not TIES:
        assert not any(passes[1:])
    assert build(plan, tmp_path / "again", shelf) == (whole, merged_bytes(plan))


def test_a_recipe_within_a_recipe_is_remembered_with_all_that_it_is_made_of(root: Path, tmp_path: Path) -> None:
    def nested(weight: float) -> dict[str, Any]:
        inner = mix("m0", "m1", base="base", method=MODEL_TIES, weights=(1.0, weight))
        return mix(base="base", method=TIES) | {"ingredients": [{"source": inner}, {"source": "m2"}]}

    shelf = Shelf()
    build(planned(root, nested(1.0)), tmp_path / "first", shelf)
    same, other = planned(root, nested(1.0)), planned(root, nested(0.5))
    assert build(same, tmp_path / "same", shelf)[1] == merged_bytes(same)
    found, passed = build(other, tmp_path / "other", shelf)
    surveyed = passed / merged_bytes(other) - 1
    assert surveyed == Ties.rounds, "the inner survey ignores weights, the outer reads what they made"
    assert found == build(other, tmp_path / "alone")[0]


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda record: b"",
    "cut off": lambda record: record[:-1],
    "a bit": lambda record: record[:-9] + bytes([record[-9] ^ 1]) + record[-8:],
    "no JSON": lambda record: b"\xff" * 90,
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("method", [TIES, MODEL_TIES], ids=["tensor", "model"])
def test_a_broken_record_is_none(method: Any, broken: Callable[[bytes], bytes], root: Path, tmp_path: Path) -> None:
    plan, shelf = planned(root, mix("m0", "m1", base="base", method=method)), Shelf()
    whole, passed = build(plan, tmp_path / "whole", shelf)
    sound = dict(shelf.kept)
    shelf.kept = {key: broken(record) for key, record in sound.items()}
    assert build(plan, tmp_path / "again", shelf) == (whole, passed)
    assert shelf.kept == sound


def test_a_record_of_another_tensor_is_none(root: Path, tmp_path: Path) -> None:
    plan, shelf = planned(root, mix("m0", "m1", base="base", method=TIES)), Shelf()
    whole, passed = build(plan, tmp_path / "whole", shelf)
    keys = sorted(shelf.kept)
    shelf.kept = dict(zip(keys, [shelf.kept[key] for key in [*keys[1:], keys[0]]], strict=True))
    assert build(plan, tmp_path / "again", shelf) == (whole, passed)


def test_inputs_whose_content_nobody_knows_are_surveyed_each_time(root: Path, tmp_path: Path) -> None:
    recipe = Recipe.parse(mix("m0", "m1", base="base", method=TIES))
    plan = make_plan(recipe, lambda name: folder_source(name, root))
    shelf = Shelf()
    build(plan, tmp_path / "out", shelf)
    assert not shelf.kept
