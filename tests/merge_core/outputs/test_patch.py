"""Patches and dense deltas: what differs from the base, written, and read back as it was."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from merge_core.deltas import Sparse
from merge_core.errors import FileError, RecipeError
from merge_core.execute import execute
from merge_core.formats import read
from tests.merge_core.building import built, file_hashes, mix, planned, raw, write_model

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
PATCH = "patch.safetensors"


def write(root: Path, recipe: Mapping[str, object], name: str, threads: int = 2) -> Path:
    """Carry out a recipe into `root`/`name`."""
    execute(planned(root, recipe), root / name, threads=threads, durable=False)
    return root / name


def changed(tensor: torch.Tensor, share: float) -> torch.Tensor:
    mask = torch.rand(tensor.shape) < share
    return torch.where(mask, torch.randn(tensor.shape).to(tensor.dtype), tensor)


def pair(root: Path, dtype: torch.dtype = torch.bfloat16) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A base and its fine-tune: a little changed, unchanged, a whole chunk and more, a sign of zero, a new head."""
    torch.manual_seed(0)
    base = {
        "a.weight": torch.randn(300, 500).to(dtype),
        "b.bias": torch.randn(70).to(dtype),
        "kept": torch.ones(5, dtype=dtype),
        "zero": torch.zeros(3, dtype=dtype),
        "scalar": torch.tensor(1.0, dtype=dtype),
        "ids": torch.arange(4),
    }
    tuned = base | {"a.weight": changed(base["a.weight"], 0.1), "b.bias": base["b.bias"] + 1, "zero": -base["zero"]}
    tuned |= {"scalar": torch.tensor(1e-30, dtype=torch.float64).to(dtype), "head": torch.randn(2, 3).to(dtype)}
    write_model(root / "base", base)
    write_model(root / "tuned", tuned)
    return base, tuned


def difference(kind: str) -> dict[str, object]:
    return mix("tuned", base="base", method="passthrough", output={"kind": kind})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("kind", ["patch", "dense"])
def test_what_differs_put_on_the_base_is_the_fine_tune_bit_for_bit(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    _, tuned = pair(tmp_path, dtype)
    folder = write(tmp_path, difference(kind), "delta")
    back = built(tmp_path, mix("delta", base="base", method="passthrough"))
    assert back.keys() == tuned.keys()
    assert all(raw(back[name]) == raw(tuned[name]) for name in tuned)
    assert not {"kept", "ids", "kept.values"} & load_file(folder / PATCH).keys()


def test_a_patch_holds_the_entries_that_differ_and_no_others(tmp_path: Path) -> None:
    base, tuned = pair(tmp_path)
    found = load_file(write(tmp_path, difference("patch"), "delta") / PATCH)
    assert set(found) == {
        f"{name}.{part}" for name in ("a.weight", "b.bias", "zero", "scalar") for part in ("indices", "values")
    } | {"head"}
    flat = (tuned["a.weight"].reshape(-1) != base["a.weight"].reshape(-1)).nonzero().reshape(-1)
    assert torch.equal(found["a.weight.indices"], flat.to(torch.int32))
    assert torch.equal(found["a.weight.values"], tuned["a.weight"].reshape(-1)[flat])


def test_a_patch_is_the_same_bytes_on_any_number_of_threads(tmp_path: Path) -> None:
    pair(tmp_path)
    recipe = mix("tuned", "base", base="base", method={"name": "ties", "density": 0.3}, output={"kind": "patch"})
    recipe["tensors"] = [{"match": "head", "take": 0}]
    hashes = [file_hashes(write(tmp_path, recipe, f"out{threads}", threads)) for threads in (1, 2, 4)]
    assert hashes[0] == hashes[1] == hashes[2]


def test_a_merge_as_a_patch_is_the_merge_as_a_checkpoint(tmp_path: Path) -> None:
    base, _ = pair(tmp_path)
    wish = mix("tuned", base="base", method="task_arithmetic", scale=0.3)
    whole = built(tmp_path, wish)
    write(tmp_path, wish | {"output": {"kind": "patch"}}, "delta")
    back = built(tmp_path, mix("delta", base="base", method="linear"))
    assert all(torch.equal(back[name], whole[name]) for name in whole.keys() | base.keys())


def test_a_model_that_is_its_base_gives_an_empty_patch(tmp_path: Path) -> None:
    base, _ = pair(tmp_path)
    write(tmp_path, mix("base", base="base", method="passthrough", output={"kind": "patch"}), "delta")
    assert load_file(tmp_path / "delta" / PATCH) == {}
    back = built(tmp_path, mix("delta", base="base", method="linear"))
    assert all(raw(back[name]) == raw(base[name]) for name in base)


def test_no_patch_is_larger_than_its_plan_says(tmp_path: Path) -> None:
    base, _ = pair(tmp_path)
    write_model(tmp_path / "other", {name: tensor + 1 for name, tensor in base.items()})
    recipe = mix("other", base="base", method="passthrough", output={"kind": "patch"})
    plan = planned(tmp_path, recipe)
    assert (write(tmp_path, recipe, "delta") / PATCH).stat().st_size <= plan.total_bytes
    assert any(str(plan.total_bytes) in warning for warning in plan.warnings)


@pytest.mark.parametrize(
    ("recipe", "where"),
    [
        (mix("tuned", method="linear", output={"kind": "patch"}), "base"),
        (difference("patch") | {"dtype": "float32"}, "tensor 'a.weight'"),
    ],
)
def test_what_no_patch_can_say_is_refused_in_planning(tmp_path: Path, recipe: dict[str, object], where: str) -> None:
    pair(tmp_path)
    with pytest.raises(RecipeError) as caught:
        planned(tmp_path, recipe)
    assert caught.value.where == where


def test_nothing_is_left_of_a_patch_that_fails(tmp_path: Path) -> None:
    write_model(tmp_path / "base", {"a": torch.ones(3)})
    write_model(tmp_path / "tuned", {"a": torch.full((3,), 3e38)})
    recipe = mix("tuned", base="base", method="task_arithmetic", scale=9.0, output={"kind": "patch"})
    with pytest.raises(FileError, match="too large"):
        write(tmp_path, recipe, "delta")
    assert list((tmp_path / "delta").iterdir()) == []


def patch_of(folder: Path, shapes: object, tensors: dict[str, torch.Tensor], version: object = 1) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    text = json.dumps({"version": version, "shapes": shapes})
    save_file(tensors, folder / PATCH, metadata={"stockpot.patch": text})
    return {PATCH: folder / PATCH}


def entries(indices: list[int], dtype: torch.dtype = torch.int64) -> dict[str, torch.Tensor]:
    return {"w.indices": torch.tensor(indices, dtype=dtype), "w.values": torch.ones(len(indices))}


HOSTILE: dict[str, Callable[[Path], dict[str, Path]]] = {
    "not sorted": lambda f: patch_of(f, {"w": [2, 3]}, entries([3, 1])),
    "twice the same": lambda f: patch_of(f, {"w": [2, 3]}, entries([1, 1])),
    "out of range": lambda f: patch_of(f, {"w": [2, 3]}, entries([1, 6])),
    "negative": lambda f: patch_of(f, {"w": [2, 3]}, entries([-1, 2], torch.int32)),
    "of an empty weight": lambda f: patch_of(f, {"w": [0]}, entries([0])),
    "other lengths": lambda f: patch_of(f, {"w": [6]}, entries([1]) | {"w.values": torch.ones(2)}),
    "indices that are floats": lambda f: patch_of(f, {"w": [6]}, entries([1]) | {"w.indices": torch.ones(1)}),
    "values that are integers": lambda f: patch_of(f, {"w": [6]}, entries([1]) | {"w.values": torch.ones(1).int()}),
    "no values": lambda f: patch_of(f, {"w": [6]}, {"w.indices": torch.ones(1).int()}),
    "a shape that overflows": lambda f: patch_of(f, {"w": [2**40, 2**40]}, entries([1])),
    "a shape that is text": lambda f: patch_of(f, {"w": "6"}, entries([1])),
    "a negative shape": lambda f: patch_of(f, {"w": [-6]}, entries([1])),
    "shapes that are a list": lambda f: patch_of(f, ["w"], entries([1])),
    "another version": lambda f: patch_of(f, {"w": [6]}, entries([1]), version=2),
    "twice there": lambda f: patch_of(f, {"w": [6]}, entries([1]) | {"w": torch.ones(6)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_patch_that_is_not_sound_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileError) as caught:
        read(HOSTILE[name](tmp_path))
    assert PATCH in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_file_without_the_metadata_is_no_patch(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2)}, tmp_path / PATCH)
    with pytest.raises(FileError, match=r"stockpot\.patch"):
        read({PATCH: tmp_path / PATCH})


@settings(max_examples=60)
@given(data=st.data(), size=st.integers(1, 40), dtype=st.sampled_from([torch.int32, torch.int64]))
def test_a_sparse_delta_says_the_same_of_any_chunk(tmp_path_factory: Any, data: Any, size: int, dtype: Any) -> None:
    indices = sorted(data.draw(st.sets(st.integers(0, size - 1))))
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    tensors = {"w.indices": torch.tensor(indices, dtype=dtype), "w.values": torch.randn(len(indices))}
    delta = read(patch_of(tmp_path_factory.mktemp("p"), {"w": [size]}, tensors)).deltas["w"]
    assert isinstance(delta, Sparse)
    base = torch.randn(size)
    expected = base.clone()
    expected[indices] = tensors["w.values"]
    out, part = torch.empty(stop - start).numpy(), base[start:stop].numpy()
    delta.open().load_weight(out, start, part)
    assert torch.equal(torch.from_numpy(out), expected[start:stop])
    delta.open().load_delta(out, start, part)
    assert torch.equal(torch.from_numpy(out), (expected - base)[start:stop])


def test_the_metadata_says_how_the_patch_was_made(tmp_path: Path) -> None:
    pair(tmp_path)
    with safe_open(write(tmp_path, difference("patch"), "delta") / PATCH, "pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["stockpot.recipe"])["output"]["kind"] == "patch"
    assert json.loads(metadata["stockpot.patch"])["shapes"]["a.weight"] == [300, 500]
