"""The loop from plan to bytes: complete or not there, stopped at once, the same in parts as in one."""

import json
import os
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, BertConfig, BertModel

from merge_core import schedule
from merge_core.errors import CancelledError, FileError
from merge_core.execute import execute
from merge_core.plan import make_plan
from merge_core.planning.tensors import Merge
from merge_core.recipe import Recipe
from merge_core.run import Run
from merge_core.sources import folder_source
from tests.merge_core.building import (
    ROUNDING,
    built,
    file_hashes,
    loaded,
    mix,
    planned,
    raw,
    relative_rms,
    write_adapter,
    write_model,
)

SHAPES = {"a.weight": (300, 70), "b.bias": (70,), "c.scale": (), "d.empty": (0, 4), "e.weight": (500, 300)}
TIES = {"name": "ties", "density": 0.3}
MODEL_TIES = {"name": "ties", "density": 0.3, "scope": "model"}


def toy(seed: int, dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    floats = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in SHAPES.items()}
    return floats | {"ids": torch.arange(5), "mask": torch.tensor([True, False])}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for seed, name in enumerate(("base", "m0", "m1", "m2")):
        write_model(tmp_path / name, toy(seed))
    return tmp_path


def arithmetic(**fields: Any) -> dict[str, Any]:
    return mix("m0", "m1", "m2", weights=(0.5, 0.3, -0.2), base="base", method="task_arithmetic", **fields)


def test_the_output_opens_with_the_official_library_and_says_what_it_is(root: Path) -> None:
    made = planned(root, arithmetic())
    files = execute(made, root / "out")
    assert sorted(file.name for file in files) == ["README.md", "config.json", "model.safetensors"]
    with safe_open(root / "out" / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(toy(0))
        metadata = file.metadata()
    assert metadata["format"] == "pt"
    text = metadata["stockpot.recipe"]
    assert sha256(text.encode()).hexdigest() == metadata["stockpot.recipe_sha256"]
    assert json.loads(text)["base"] == "#0"
    assert [entry["weight"] for entry in json.loads(text)["ingredients"]] == [0.5, 0.3, -0.2]


def test_transformers_loads_the_output_with_and_without_shards(tmp_path: Path) -> None:
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    for seed, name in enumerate(("base", "m0", "m1")):
        torch.manual_seed(seed)
        BertModel(config).save_pretrained(tmp_path / name)
    recipe = mix("m0", "m1", base="base", method=MODEL_TIES)
    for size in (5_000_000_000, 4_000):
        folder = tmp_path / f"out{size}"
        execute(planned(tmp_path, recipe | {"output": {"max_shard_bytes": size}}), folder, durable=False)
        model, info = AutoModel.from_pretrained(folder, output_loading_info=True)
        assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
        saved = loaded(folder)
        assert all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items() if name in saved)
    assert len(list(folder.glob("*.safetensors"))) > 2


@pytest.mark.parametrize("method", ["task_arithmetic", TIES, MODEL_TIES])
def test_the_union_of_shards_is_the_whole(root: Path, method: object) -> None:
    whole = built(root, arithmetic() | {"method": method})
    made = planned(root, arithmetic(output={"max_shard_bytes": 50_000}) | {"method": method})
    folder = root / "parts"
    written = [path for i in range(len(made.shards)) for path in execute(made, folder, shards=[i], durable=False)]
    assert [path.name for path in written] == [shard.name for shard in made.shards]
    parts = loaded(folder)
    assert {name: raw(tensor) for name, tensor in parts.items()} == {name: raw(t) for name, t in whole.items()}


def test_no_shards_chosen_builds_nothing(root: Path) -> None:
    assert execute(planned(root, arithmetic()), root / "out", shards=[], durable=False) == []
    assert list((root / "out").iterdir()) == []


@pytest.mark.parametrize("method", ["task_arithmetic", TIES, MODEL_TIES, TIES | {"convention": "original"}])
@pytest.mark.parametrize("shards", [None, [0], [1, 2]])
@pytest.mark.parametrize("dtype", ["same", "float32"])
def test_progress_only_grows_and_ends_at_the_total(
    root: Path, method: object, shards: list[int] | None, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "PIECE", 16384)
    inner = {"source": arithmetic() | {"method": method}}
    recipe = mix("m0", base="base", method="task_arithmetic", dtype=dtype, output={"max_shard_bytes": 100_000})
    recipe["ingredients"] += [inner]
    seen: list[tuple[int, int]] = []
    execute(planned(root, recipe), root / "o", shards=shards, durable=False, on_progress=lambda *x: seen.append(x))
    done = [entry[0] for entry in seen]
    assert done == sorted(done)
    assert len({total for _, total in seen}) == 1
    assert seen[-1][0] == seen[-1][1] > 0
    assert all(now <= total for now, total in seen)
    if method == "task_arithmetic":
        assert seen[-2][0] == seen[-2][1], "every byte was counted before the end was declared"


def left_over(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


@pytest.mark.parametrize("method", ["task_arithmetic", MODEL_TIES])
def test_a_cancelled_build_stops_at_once_and_leaves_nothing(
    root: Path, method: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule, "PIECE", 16384)
    made = planned(root, arithmetic() | {"method": method})
    seen: list[tuple[int, int]] = []
    with pytest.raises(CancelledError, match="the build was cancelled"):
        execute(made, root / "out", threads=2, on_progress=lambda *now: seen.append(now), cancelled=lambda: True)
    ((done, total),) = seen  # no second result was waited for
    assert done < total
    assert left_over(root / "out") == []


def test_a_build_cancelled_between_pieces_leaves_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "PIECE", 16384)
    done: list[int] = []
    report = lambda bytes_done, total: done.append(bytes_done)  # noqa: E731 - one line says it
    with pytest.raises(CancelledError):
        execute(
            planned(root, arithmetic()), root / "out", threads=1, on_progress=report, cancelled=lambda: done[-1] > 0
        )
    assert len(done) == 1
    assert left_over(root / "out") == []


def test_a_failing_build_leaves_what_was_there_and_nothing_more(root: Path) -> None:
    bad = toy(1)
    bad["e.weight"][-1, -1] = float("nan")
    write_model(root / "bad", bad)
    folder = root / "out"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    recipe = mix("m0", "bad", base="base", method="task_arithmetic", output={"max_shard_bytes": 1000})
    with pytest.raises(FileError, match=r"tensor 'e\.weight'"):
        execute(planned(root, recipe), folder)
    assert left_over(folder) == ["notes.txt"]


@pytest.mark.parametrize("method", ["task_arithmetic", "ties", "slerp"])
@pytest.mark.parametrize("cut", ["base", "m1"])
def test_an_input_cut_short_since_it_was_planned_is_told(root: Path, method: str, cut: str) -> None:
    made = planned(root, mix("m0", "m1", base="base", method=method))
    file = root / cut / "model.safetensors"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(FileError, match=r"model\.safetensors: tensor '.*': the file was cut short while it was read"):
        execute(made, root / "out")
    assert left_over(root / "out") == []


def test_a_failing_report_of_progress_leaves_nothing(root: Path) -> None:
    def report(done: int, total: int) -> None:
        raise ConnectionError("nobody listens")

    with pytest.raises(ConnectionError):
        execute(planned(root, arithmetic()), root / "out", on_progress=report)
    assert left_over(root / "out") == []


def test_a_second_build_replaces_the_first(root: Path) -> None:
    execute(planned(root, arithmetic()), root / "out")
    execute(planned(root, arithmetic(scale=2.0)), root / "out")
    execute(planned(root, arithmetic(scale=2.0)), root / "other")
    assert file_hashes(root / "out") == file_hashes(root / "other")


INNER = [
    mix("m0", "m1", base="base", method={"name": "ties", "density": 0.5}, scale=0.8),
    mix("m0", "m1", base="base", method={"name": "ties", "density": 0.5, "scope": "model"}),
    mix("m0", "m1", method={"name": "slerp", "t": 0.3}),
    mix("m0", "m1", "m2", method="linear"),
]


@pytest.mark.parametrize("inner", INNER)
@pytest.mark.parametrize("outer", ["linear", "task_arithmetic"])
def test_a_nested_recipe_is_two_steps_up_to_one_rounding(root: Path, inner: dict[str, Any], outer: str) -> None:
    recipe = mix("m2", weights=(0.5,), base="base", method=outer)
    nested = built(root, recipe | {"ingredients": [*recipe["ingredients"], {"source": inner, "weight": 0.7}]})
    write_model(root / "step", built(root, inner))
    stepwise = built(root, mix("m2", "step", weights=(0.5, 0.7), base="base", method=outer))
    for name, tensor in nested.items():
        if tensor.is_floating_point():
            assert relative_rms(tensor, stepwise[name]) <= ROUNDING[torch.bfloat16], name
        else:
            assert torch.equal(tensor, stepwise[name])


def test_a_nested_recipe_in_float32_is_two_steps_bit_for_bit(tmp_path: Path) -> None:
    for seed, name in enumerate(("base", "m0", "m1", "m2")):
        write_model(tmp_path / name, toy(seed, torch.float32))
    for inner in INNER:
        recipe = mix("m2", weights=(0.5,), base="base", method=MODEL_TIES)
        nested = built(tmp_path, recipe | {"ingredients": [*recipe["ingredients"], {"source": inner, "weight": 0.7}]})
        step = f"step{len(list(tmp_path.iterdir()))}"
        write_model(tmp_path / step, built(tmp_path, inner))
        stepwise = built(tmp_path, mix("m2", step, weights=(0.5, 0.7), base="base", method=MODEL_TIES))
        assert {name: raw(tensor) for name, tensor in nested.items()} == {n: raw(t) for n, t in stepwise.items()}


def test_an_inner_survey_of_the_model_comes_first_where_some_tensors_have_none(root: Path) -> None:
    """The first tensor is only copied by the inner recipe, so the outer one alone has it to survey."""
    inner = mix("m0", "m1", base="base", method=MODEL_TIES, tensors=[{"match": "a.*", "take": "base"}])
    recipe = {"base": "base", "method": MODEL_TIES, "ingredients": [{"source": inner}, {"source": "m2"}]}
    write_model(root / "step", built(root, inner | {"dtype": "float32"}))
    expected = built(root, mix("step", "m2", base="base", method=MODEL_TIES))
    found = built(root, recipe)
    assert {name: raw(tensor) for name, tensor in found.items()} == {name: raw(t) for name, t in expected.items()}


def test_the_same_recipe_twice_within_another_is_surveyed_apart(root: Path) -> None:
    inner = mix("m0", base="base", method=MODEL_TIES | {"density": 0.333333})
    shared = Recipe.parse(inner)
    outer = {"base": "base", "method": "task_arithmetic"}
    apart = built(root, outer | {"ingredients": [{"source": inner}, {"source": dict(inner)}]})
    recipe = Recipe.parse(outer | {"ingredients": [{"source": shared}, {"source": shared}]})
    execute(make_plan(recipe, lambda name: folder_source(name, root)), root / "out", durable=False)
    assert {n: raw(t) for n, t in loaded(root / "out").items()} == {name: raw(t) for name, t in apart.items()}


def test_bytes_are_the_same_whatever_the_machine_has_in_memory(root: Path) -> None:
    """The order of the files in a folder, and of the base's tensors, is not the order of the output."""
    backwards = dict(reversed(toy(0).items()))
    write_model(root / "backwards", backwards)
    forwards = file_hashes_of(root, arithmetic())
    assert file_hashes_of(root, arithmetic() | {"base": "backwards"}) == forwards


def file_hashes_of(root: Path, recipe: dict[str, Any]) -> str:
    folder = root / f"out{len(list(root.iterdir()))}"
    execute(planned(root, recipe), folder, durable=False)
    return file_hashes(folder)["model.safetensors"]


def test_an_adapter_leaves_what_it_does_not_name_byte_for_byte(root: Path) -> None:
    write_adapter(root / "lora", {"a": (torch.ones(2, 70), torch.ones(300, 2))})
    found = built(root, mix("lora", base="base", method="task_arithmetic"))
    for name, tensor in toy(0).items():
        assert (raw(found[name]) == raw(tensor)) == (name != "a.weight")


def test_tensors_of_no_elements_alone_make_a_model(tmp_path: Path) -> None:
    for name in ("base", "m0"):
        write_model(tmp_path / name, {"x": torch.zeros(0, 3), "y": torch.zeros(0)})
    for method in ("linear", "task_arithmetic", TIES, MODEL_TIES):
        found = built(tmp_path, mix("m0", base="base", method=method))
        assert {name: tensor.shape for name, tensor in found.items()} == {"x": (0, 3), "y": (0,)}


def test_a_cancel_is_seen_while_a_long_unit_of_work_goes_on() -> None:
    begun, let_go = Event(), Event()

    def long() -> None:
        begun.set()
        assert let_go.wait(20), "nobody looked whether to stop"

    def check() -> None:
        if begun.is_set():
            let_go.set()
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        schedule.carry_out(iter([iter([schedule.Batch([long])])]), 1, check)
    assert let_go.is_set()


def test_a_unit_of_work_over_many_inputs_takes_no_longer_than_over_few(root: Path) -> None:
    shapes = {"w": torch.zeros(3000, 3000, dtype=torch.bfloat16)}
    for name in ("wide0", "wide1"):
        write_model(root / name, shapes)

    def work(count: int) -> int:
        names = [f"wide{position % 2}" for position in range(count)]
        [merge] = planned(root, mix(*names, method="linear")).tensors.values()
        assert isinstance(merge, Merge)
        return max((piece.stop - piece.start) * count for piece in schedule.pieces(Run(merge)))

    assert work(32) <= work(4)
