"""Where tensors lie: aligned, without holes, in whole shards, by a plan that keeps its word."""

import json
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from merge_core.execute import execute
from merge_core.layout import Shard, index_json, lay_out
from merge_core.tensors import DType, TensorSpec
from tests.merge_core.building import mix, planned, write_model

specs = st.lists(
    st.builds(
        TensorSpec,
        st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1, max_size=12),
        st.sampled_from(list(DType)),
        st.lists(st.integers(0, 9), max_size=3).map(tuple),
    ),
    unique_by=lambda spec: spec.name,
    max_size=20,
)


def header_of(shard: Shard) -> dict[str, object]:
    length = int.from_bytes(shard.header[:8], "little")
    assert len(shard.header) == 8 + length
    return json.loads(shard.header[8:])


@given(specs, st.integers(1, 500))
def test_every_tensor_has_one_aligned_place_and_files_have_no_holes(tensors: list[TensorSpec], most: int) -> None:
    shards = lay_out(tensors, most, {"format": "pt"})
    placed = [slot.spec for shard in shards for slot in shard.slots]
    assert sorted(placed, key=str) == sorted(tensors, key=str)
    for shard in shards:
        position = len(shard.header)
        assert position % 8 == 0
        for slot in shard.slots:
            assert slot.offset == position
            assert slot.offset % slot.spec.dtype.itemsize == 0
            position += slot.spec.nbytes
        assert shard.nbytes == position


@given(specs, st.integers(1, 500))
def test_a_shard_is_within_its_limit_or_a_single_tensor(tensors: list[TensorSpec], most: int) -> None:
    for shard in lay_out(tensors, most, {}):
        size = sum(slot.spec.nbytes for slot in shard.slots)
        holders = [slot for slot in shard.slots if slot.spec.nbytes]
        assert size <= most or len(holders) == 1


@given(specs, st.integers(1, 500), st.randoms())
def test_the_layout_does_not_depend_on_the_order_of_tensors(
    tensors: list[TensorSpec], most: int, random: object
) -> None:
    shuffled = list(tensors)
    random.shuffle(shuffled)
    assert lay_out(tensors, most, {"a": "b"}) == lay_out(shuffled, most, {"a": "b"})


@given(specs, st.integers(1, 500))
def test_the_header_and_the_index_say_where_everything_is(tensors: list[TensorSpec], most: int) -> None:
    shards = lay_out(tensors, most, {"format": "pt"})
    for shard in shards:
        header = header_of(shard)
        assert header.pop("__metadata__") == {"format": "pt"}
        for slot in shard.slots:
            begin = slot.offset - len(shard.header)
            entry = {"dtype": slot.spec.dtype.code, "shape": list(slot.spec.shape)}
            assert header.pop(slot.spec.name) == entry | {"data_offsets": [begin, begin + slot.spec.nbytes]}
        assert header == {}
    index = index_json(shards)
    assert (index is None) == (len(shards) == 1)
    if index is not None:
        content = json.loads(index)
        assert content["weight_map"] == {slot.spec.name: shard.name for shard in shards for slot in shard.slots}
        assert content["metadata"]["total_size"] == sum(spec.nbytes for spec in tensors)


def test_shards_are_numbered_as_transformers_expects() -> None:
    tensors = [TensorSpec(f"t{i:02}", DType.F32, (2,)) for i in range(12)]
    names = [shard.name for shard in lay_out(tensors, 8, {})]
    assert names[0] == "model-00001-of-00012.safetensors"
    assert names[-1] == "model-00012-of-00012.safetensors"
    assert [shard.name for shard in lay_out(tensors, 96, {})] == ["model.safetensors"]
    assert [shard.name for shard in lay_out([], 8, {})] == ["model.safetensors"]


def test_the_files_are_what_the_plan_describes(tmp_path: Path) -> None:
    tensors = {
        "big": torch.randn(100, 30),
        "half": torch.randn(7).half(),
        "ids": torch.arange(3),
        "flag": torch.ones(2),
    }
    write_model(tmp_path / "m0", tensors)
    made = planned(tmp_path, mix("m0", method="linear", output={"max_shard_bytes": 100}))
    execute(made, tmp_path / "out", durable=False)
    described = made.describe()
    assert json.loads(json.dumps(described)) == described
    for file in described["files"]:
        assert (tmp_path / "out" / file["path"]).stat().st_size == file["size"]
    for tensor in described["tensors"]:
        content = (tmp_path / "out" / tensor["file"]).read_bytes()
        stored = tensors[tensor["name"]].reshape(-1).view(torch.uint8).numpy().tobytes()
        assert content[tensor["offset"] : tensor["offset"] + tensor["bytes"]] == stored
        with safe_open(tmp_path / "out" / tensor["file"], "pt") as file:
            assert file.get_slice(tensor["name"]).get_shape() == tensor["shape"]
    assert made.total_bytes == sum(file["size"] for file in described["files"] if "safetensors" in file["path"][-11:])
