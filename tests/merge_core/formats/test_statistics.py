"""Statistics at the door: what is published beside weights must be of them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from merge_core.errors import FileError
from merge_core.formats import inspect
from merge_core.sources import folder_source
from tests.merge_core.building import write_adapter, write_model

FISHER, GRAM = "fisher.safetensors", "regmean_gram.safetensors"


def model(root: Path) -> Path:
    write_model(root / "m", {"l.weight": torch.ones(4, 3), "l.bias": torch.ones(4)})
    return root / "m"


def looked_at(folder: Path) -> dict[str, object]:
    found = inspect(folder_source(folder.name, folder.parent).files)
    assert found.kind != "files", found.reason
    return found.summary


def test_statistics_are_listed_and_do_not_change_what_the_files_are(tmp_path: Path) -> None:
    folder = model(tmp_path)
    assert looked_at(folder)["statistics"] == []
    save_file({"l.weight": torch.ones(4, 3)}, folder / FISHER)
    save_file({"l.weight": torch.eye(3)}, folder / GRAM)
    assert looked_at(folder)["statistics"] == [FISHER, GRAM]
    assert looked_at(folder)["tensors"] == 2
    write_adapter(tmp_path / "a", {"l": (torch.ones(1, 3), torch.ones(4, 1))})
    save_file({"l.weight": torch.ones(4, 3), "other.bias": torch.ones(4)}, tmp_path / "a" / FISHER)
    assert looked_at(tmp_path / "a")["statistics"] == [FISHER]


@pytest.mark.parametrize(
    ("file", "name", "tensor", "message"),
    [
        (FISHER, "l.weight", torch.ones(3, 4), r"found \[3, 4\]; expected \[4, 3\] for a weight \[4, 3\]"),
        (FISHER, "l.weigth", torch.ones(4, 3), r"belongs to no weight.*expected one of 'l.weight'"),
        (FISHER, "l.bias", torch.ones(4).half(), "found float16; expected float32"),
        (GRAM, "l.weight", torch.eye(4), r"found \[4, 4\]; expected \[3, 3\] for a weight \[4, 3\]"),
        (GRAM, "l.bias", torch.eye(4), r"found \[4, 4\]; expected none for a weight \[4\]"),
    ],
)
def test_statistics_of_no_weight_or_another_shape_or_type_are_refused(
    file: str, name: str, tensor: torch.Tensor, message: str, tmp_path: Path
) -> None:
    folder = model(tmp_path)
    save_file({name: tensor}, folder / file)
    with pytest.raises(FileError, match=rf"{file}: tensor '{name}': .*{message}"):
        looked_at(folder)


def test_statistics_beside_a_model_of_another_name_are_not_taken_for_weights(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    save_file({"l.weight": torch.ones(4, 3)}, folder / FISHER)
    assert looked_at(folder)["tensors"] == 2
    (folder / "other.safetensors").unlink()
    assert inspect(folder_source(folder.name, folder.parent).files).kind == "files"


def test_a_broken_statistics_file_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / FISHER).write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(FileError, match=FISHER):
        looked_at(folder)
