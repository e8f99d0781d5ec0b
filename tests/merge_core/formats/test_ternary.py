"""Ternary files: what is written comes back, ranges are read without the rest, and no file is believed."""

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from kernels.gap_code import BLOCK
from merge_core.errors import FileError
from merge_core.formats import check_file, inspect
from merge_core.formats.ternary import open_ternary, read
from tests.merge_core.building import built, execute, file_hashes, mix, planned, write_model

FILE = "ternary.safetensors"
SIZE = 2 * BLOCK + 777


def write(root: Path, form: str, threads: int = 2, source: str = "tuned", **output: Any) -> Path:
    folder = root / f"{form}{threads}"
    wish = mix(source, base="base", method="passthrough", output={"kind": "ternary", "form": form, **output})
    execute(planned(root, wish), folder, threads=threads, durable=False)
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A base and its fine-tune: several blocks, odd rows, a head, integers, a tensor that stays, and one of zeros."""
    torch.manual_seed(0)
    base = {
        "long": torch.randn(SIZE),
        "odd": torch.randn(37, 41).bfloat16(),
        "same": torch.randn(5),
        "empty": torch.empty(0, 3),
        "one": torch.tensor(1.5),
        "count": torch.tensor([1, 2]),
    }
    tuned = {
        name: t + 0.1 * torch.randn(t.shape).to(t.dtype) if t.dtype.is_floating_point else t for name, t in base.items()
    }
    tuned |= {"same": base["same"], "count": torch.tensor([1, 3]), "head": torch.randn(4, 2)}
    write_model(tmp_path / "base", base)
    write_model(tmp_path / "tuned", tuned)
    return tmp_path


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_the_file_is_the_same_for_any_number_of_threads(pair: Path, form: str) -> None:
    hashes = [file_hashes(write(pair, form, threads)) for threads in (1, 2, 4)]
    assert hashes[0] == hashes[1] == hashes[2]


def test_both_forms_say_the_same_of_every_tensor(pair: Path) -> None:
    take = [{"match": "count", "take": 0}]
    names = [write(pair, form).name for form in ("hot", "cold")]
    wish = [mix(name, base="base", method="task_arithmetic", tensors=take) for name in names]
    hot, cold = (built(pair, recipe) for recipe in wish)
    assert hot.keys() == cold.keys()
    assert all(torch.equal(hot[name], cold[name]) for name in hot)
    tuned, base = (load_file(pair / name / "model.safetensors") for name in ("tuned", "base"))
    assert torch.equal(hot["head"], tuned["head"])
    assert torch.equal(hot["count"], tuned["count"])
    assert torch.equal(hot["same"], base["same"])
    moved = hot["long"] - base["long"]
    assert int(moved.count_nonzero()) == pytest.approx(0.2 * SIZE, rel=0.05)


def test_a_method_that_reads_rows_gives_a_file_of_the_same_signs(pair: Path) -> None:
    """Its chunks begin at rows of 41 entries, in the middle of a byte."""
    wish = mix("tuned", base="base", method={"name": "model_stock", "per_row": True})
    wish["tensors"] = [{"match": "count", "take": "base"}]
    files = []
    for method in (wish["method"], "task_arithmetic"):
        folder = pair / f"rows{len(files)}"
        execute(planned(pair, wish | {"method": method, "output": {"kind": "ternary", "form": "hot"}}), folder)
        files.append(load_file(folder / FILE))
    assert files[0].keys() == files[1].keys()
    assert all(torch.equal(files[0][name], files[1][name]) for name in files[0] if ".positive" in name)


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_no_file_is_larger_than_its_plan_says(pair: Path, form: str) -> None:
    wish = mix("tuned", base="base", method="passthrough", output={"kind": "ternary", "form": form, "density": 1.0})
    plan = planned(pair, wish)
    execute(plan, pair / "out", durable=False)
    assert (pair / "out" / FILE).stat().st_size <= plan.total_bytes
    assert inspect({FILE: pair / "out" / FILE}).kind == "delta"


def test_a_delta_of_zeros_gives_a_file_without_tensors(pair: Path) -> None:
    folder = write(pair, "cold", source="base")
    assert load_file(folder / FILE) == {}
    base = load_file(pair / "base/model.safetensors")
    back = built(pair, mix(folder.name, base="base", method="task_arithmetic"))
    assert all(torch.equal(back[name], base[name]) for name in base)


def test_density_0_keeps_nothing_and_density_1_every_sign(pair: Path) -> None:
    assert "long.sizes" not in load_file(write(pair, "cold", 1, density=0.0) / FILE)
    contents = open_ternary({FILE: write(pair, "cold", 2, density=1.0) / FILE})
    assert contents.entries["long"].count == SIZE


@pytest.mark.parametrize("form", ["hot", "cold"])
@given(data=st.data())
def test_any_range_is_that_of_the_whole(
    whole: dict[str, tuple[Any, np.ndarray]], form: str, data: st.DataObject
) -> None:
    delta, expected = whole[form]
    start = data.draw(st.integers(0, SIZE - 1))
    size = data.draw(st.integers(1, SIZE - start))
    out = np.full(size, np.nan, np.float32)
    delta.open().load_delta(out, start, None)
    assert np.array_equal(out, expected[start : start + size])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, np.ndarray]]:
    root = tmp_path_factory.mktemp("ranges")
    write_model(root / "base", {"long": torch.zeros(SIZE)})
    write_model(root / "tuned", {"long": torch.randn(SIZE, generator=torch.Generator().manual_seed(1))})
    found = {}
    for form in ("hot", "cold"):
        delta = open_ternary({FILE: write(root, form) / FILE}).deltas["long"]
        out = np.empty(SIZE, np.float32)
        delta.open().load_delta(out, 0, None)
        found[form] = delta, out
    return found


def test_a_range_of_a_cold_tensor_decodes_its_own_blocks_only(whole: dict, tmp_path: Path) -> None:
    """The first block is broken; the others are read all the same."""
    delta, expected = whole["cold"]
    broken = delta.parts[1].data.copy()
    broken[2:4] = 0
    loader = delta.open()
    loader._planes._blocks = type(delta.parts[1])(delta.parts[1].spec, broken, FILE)
    out = np.empty(1000, np.float32)
    loader.load_delta(out, BLOCK, None)
    assert np.array_equal(out, expected[BLOCK : BLOCK + 1000])
    with pytest.raises(FileError, match=r"long\.blocks', block 0.*divisor 0"):
        loader.load_delta(out, BLOCK - 1, None)


def hostile(
    folder: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None], form: str = "hot"
) -> dict[str, Path]:
    """A sound file of one tensor [3, 5] with two entries, changed."""
    entry = {"shape": [3, 5], "value": 0.5, "count": 2}
    meta: dict[str, Any] = {"version": 1, "form": form, "of": "weights", "tensors": {"w": entry}}
    planes = {"w.positive": [2, *[0] * 7], "w.negative": [0, 64, *[0] * 6]}
    tensors = {name: torch.tensor(bits, dtype=torch.uint8) for name, bits in planes.items()}
    if form == "cold":
        block = torch.tensor([1, 0, 1, 0, 2, 64, 2], dtype=torch.uint8)
        tensors = {"w.sizes": torch.tensor([7], dtype=torch.uint16), "w.blocks": block}
    change(meta, tensors)
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / FILE, metadata={"stockpot.ternary": json.dumps(meta)})
    return {FILE: folder / FILE}


def entry(**changes: Any) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    return lambda meta, tensors: meta["tensors"]["w"].update(changes)


def field(**changes: Any) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    return lambda meta, tensors: meta.update(changes)


def parts(**changes: torch.Tensor | None) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    def change(meta: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        for key, tensor in changes.items():
            tensors.pop(f"w.{key}", None)
            if tensor is not None:
                tensors[f"w.{key}"] = tensor

    return change


def octets(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.uint8)


HOT = {
    "another version": (field(version=2), "does not say"),
    "no form": (field(form="warm"), "does not say"),
    "of nothing": (field(of="soup"), "does not say"),
    "one field more": (field(more=1), "does not say"),
    "no tensors": (field(tensors=[]), "does not say"),
    "of an adapter without config": (field(of="adapter"), "config is missing"),
    "wrong count": (entry(count=3), "count is wrong"),
    "count below 0": (entry(count=-1), "malformed"),
    "count that is true": (entry(count=True), "malformed"),
    "value below 0": (entry(value=-0.5), "value is not acceptable"),
    "value not finite": (entry(value=float("inf")), "value is not acceptable"),
    "value no number": (entry(value="1"), "value is not acceptable"),
    "value beyond float32": (entry(value=10**60), "value is not acceptable"),
    "center of a weight": (entry(center=1.0), "value is not acceptable"),
    "error no number": (entry(relative_error=float("nan")), "malformed"),
    "unknown field": (entry(alpha=1.0), "malformed"),
    "shape below 0": (entry(shape=[-3, 5]), "shape is malformed"),
    "shape beyond all": (entry(shape=[2**40, 2**40]), "too large"),
    "shape larger than planes": (entry(shape=[30, 50]), "parts do not fit"),
    "no negative": (parts(negative=None), "part is missing"),
    "planes of another length": (parts(negative=octets(*[0] * 16)), "parts do not fit"),
    "planes of another type": (parts(negative=torch.zeros(8, dtype=torch.int8)), "parts do not fit"),
    "overlap": (parts(negative=octets(2, *[0] * 7)), "overlap"),
    "bits behind the end": (parts(negative=octets(0, 128, *[0] * 6)), "behind the last"),
    "whole as well": (lambda meta, tensors: tensors.update(w=torch.zeros(3, 5)), "there twice"),
}
COLD = {
    "sizes that do not add up": (parts(sizes=torch.tensor([6], dtype=torch.uint16)), "do not fit their sizes"),
    "a block of 3 bytes": (parts(sizes=torch.tensor([3], dtype=torch.uint16), blocks=octets(1, 2, 3)), "do not fit"),
    "one block too many": (parts(sizes=torch.tensor([7, 0], dtype=torch.uint16)), "parts do not fit"),
    "wrong count of a block": (parts(blocks=octets(0, 0, 1, 0, 2, 64, 2)), "count is wrong"),
    "blocks in two dimensions": (parts(blocks=torch.zeros(7, 1, dtype=torch.uint8)), "parts do not fit"),
}
BROKEN_BLOCKS = {
    "divisor 0": octets(1, 0, 0, 0, 2, 64, 2),
    "behind the end": octets(1, 0, 1, 0, 2, 128, 2),
    "no second gap": octets(1, 0, 1, 0, 2, 0, 2),
    "a third gap": octets(1, 0, 1, 0, 3, 64, 2),
    "a third sign": octets(1, 0, 1, 0, 2, 64, 6),
}


@pytest.mark.parametrize("case", HOT)
def test_a_hostile_hot_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, message = HOT[case]
    with pytest.raises(FileError, match=message):
        read(hostile(tmp_path, change))


@pytest.mark.parametrize("case", COLD)
def test_a_hostile_cold_file_is_refused_by_name(case: str, tmp_path: Path) -> None:
    change, message = COLD[case]
    with pytest.raises(FileError, match=message) as caught:
        read(hostile(tmp_path, change, "cold"))
    assert "'w'" in str(caught.value)


@pytest.mark.parametrize("case", BROKEN_BLOCKS)
def test_a_broken_block_is_refused_at_the_door_and_when_it_is_used(case: str, tmp_path: Path) -> None:
    files = hostile(tmp_path / "delta", parts(blocks=BROKEN_BLOCKS[case]), "cold")
    with pytest.raises(FileError, match=r"'w\.blocks', block 0"):
        check_file(FILE, files[FILE])
    write_model(tmp_path / "base", {"w": torch.zeros(3, 5)})
    with pytest.raises(FileError, match=r"'w\.blocks', block 0"):
        built(tmp_path, mix("delta", base="base", method="task_arithmetic"))


@pytest.mark.parametrize("form", ["hot", "cold"])
def test_a_sound_file_of_the_same_making_is_read(form: str, tmp_path: Path) -> None:
    files = hostile(tmp_path / "delta", lambda meta, tensors: None, form)
    check_file(FILE, files[FILE])
    write_model(tmp_path / "base", {"w": torch.zeros(3, 5)})
    back = built(tmp_path, mix("delta", base="base", method="task_arithmetic"))["w"].flatten()
    assert back.nonzero().flatten().tolist() == [1, 14]
    assert back[[1, 14]].tolist() == [0.5, -0.5]


@given(st.binary(min_size=1, max_size=40), st.integers(0, 40))
def test_any_bytes_in_a_block_are_a_delta_or_a_file_error(noise: bytes, place: int) -> None:
    block = octets(1, 0, 1, 0, 2, 64, 2).numpy().tobytes()
    changed = (block[:place] + noise + block[place:])[:400]
    with tempfile.TemporaryDirectory() as folder:
        change = parts(blocks=octets(*changed), sizes=torch.tensor([len(changed)], dtype=torch.uint16))
        files = hostile(Path(folder), change, "cold")
        with suppress(FileError):
            read(files).deltas["w"].open().load_delta(np.empty(15, np.float32), 0, None)
