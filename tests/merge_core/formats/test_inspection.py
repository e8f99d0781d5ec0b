"""What is refused at the door, and what a repo's files are said to be."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import FileError
from merge_core.formats import check_file, inspect


@pytest.mark.parametrize(
    "name", ["config.json", "sub/config.json", "adapter_config.json", "model.safetensors.index.json"]
)
@pytest.mark.parametrize("content", ["[]", "{", "\xff", '"text"'])
def test_a_config_that_is_no_object_is_refused(tmp_path: Path, name: str, content: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(FileError, match="JSON"):
        check_file(name, file)


@pytest.mark.parametrize("name", ["data_config.json", "modules.json", "vocab.txt", "README.md"])
def test_other_files_are_nobody_s_business(tmp_path: Path, name: str) -> None:
    file = tmp_path / "file"
    file.write_text("[1, 2]")
    check_file(name, file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_not_finite_is_found_wherever_it_lies(tmp_path: Path, dtype: torch.dtype, bad: float) -> None:
    weight = torch.zeros((1 << 20) + 3, dtype=dtype)
    weight[-1] = bad
    save_file({"fine": torch.ones(3), "layer.weight": weight}, tmp_path / "model.safetensors")
    with pytest.raises(FileError, match=r"layer\.weight"):
        check_file("model.safetensors", tmp_path / "model.safetensors")


def test_files_of_no_known_format_are_just_files(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    found = inspect({"notes.txt": tmp_path / "notes.txt"})
    assert found.kind == "files"
    assert found.reason


def test_a_checkpoint_is_a_base_with_its_sizes(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3, 4)}, tmp_path / "model.safetensors")
    found = inspect({"model.safetensors": tmp_path / "model.safetensors"})
    assert (found.kind, found.format, found.summary["elements"], found.summary["bytes"]) == (
        "base",
        "checkpoint",
        12,
        48,
    )
