"""Sharded checkpoints: the index and the shards must tell the same story, in this folder and nowhere else."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import FileError, UnsupportedError
from merge_core.formats import read
from merge_core.sources import folder_source

SHARDS = {"m-1.safetensors": ["a", "b"], "m-2.safetensors": ["c"]}
PLACEMENT = {name: shard for shard, names in SHARDS.items() for name in names}


def sharded(folder: Path, weight_map: object = PLACEMENT) -> Path:
    for shard, names in SHARDS.items():
        save_file({name: torch.ones(2) for name in names}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_shards_are_read_in_the_order_of_the_index(tmp_path: Path) -> None:
    artefact = read(folder_source(str(sharded(tmp_path))).files)
    assert list(artefact.tensors) == ["a", "b", "c"]
    assert artefact.complete


LIES = {
    "a missing shard": (PLACEMENT | {"c": "m-3.safetensors"}, "not there; found 'm-3.safetensors'.*'m-"),
    "a path upwards": (PLACEMENT | {"c": "../m-2.safetensors"}, "not there; found '../m-2.safetensors'"),
    "an absolute path": (PLACEMENT | {"c": "/etc/passwd"}, "not there; found '/etc/passwd'"),
    "a file that is no shard": (PLACEMENT | {"c": "model.safetensors.index.json"}, "not there"),
    "a name of a megabyte": (PLACEMENT | {"c": "m" * 1_000_000}, "not there"),
    "a tensor only in the index": (
        PLACEMENT | {"d": "m-2.safetensors"},
        "m-2.safetensors: tensor 'd'.*only in the index",
    ),
    "a tensor only in a shard": ({"a": "m-1.safetensors", "c": "m-2.safetensors"}, "tensor 'b'.*only in the file"),
    "tensors in each other's shards": (PLACEMENT | {"b": "m-2.safetensors", "c": "m-1.safetensors"}, "disagree"),
    "a list": ([], "weight_map must map.*found list"),
    "nothing": (None, "weight_map must map"),
    "numbers": ({"a": 1}, "weight_map must map"),
    "no tensor": ({}, "weight_map is empty"),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_index_that_lies_is_refused_by_name(lie: str, tmp_path: Path) -> None:
    weight_map, found = LIES[lie]
    with pytest.raises(FileError, match=found) as caught:
        read(folder_source(str(sharded(tmp_path, weight_map))).files)
    assert len(str(caught.value)) < 800


def test_an_index_that_gives_a_tensor_two_places_is_refused(tmp_path: Path) -> None:
    text = '{"weight_map": {"c": "m-2.safetensors", "c": "m-1.safetensors"}}'
    (sharded(tmp_path) / "model.safetensors.index.json").write_text(text)
    with pytest.raises(FileError, match="'c' appears twice"):
        read(folder_source(str(tmp_path)).files)


def test_a_single_file_beside_an_index_that_does_not_name_it_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, sharded(tmp_path) / "model.safetensors")
    with pytest.raises(FileError, match=r"both model.safetensors and model.safetensors.index.json"):
        read(folder_source(str(tmp_path)).files)


def test_a_checkpoint_beside_an_adapter_is_refused_since_either_could_be_meant(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2)}, tmp_path / "model.safetensors")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedError, match="checkpoint and peft_lora"):
        read(folder_source(str(tmp_path)).files)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pth", "x.ckpt"])
def test_a_checkpoint_in_a_pickle_is_refused_unread(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UnsupportedError, match=f"{name}: .*could run code; found os.system"):
        read(folder_source(str(tmp_path)).files)


def test_a_folder_of_nothing_known_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UnsupportedError, match=r"found notes.txt; expected a safetensors checkpoint or one of"):
        read(folder_source(str(tmp_path)).files)
