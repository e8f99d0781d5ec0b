"""Bytes of mapped files come into the process before they are looked at, and leave it without harm."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from merge_core.errors import FileError
from merge_core.mapped_file import leave, map_file, refuse_cut
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

SIZE = 64 * mmap.PAGESIZE


def tensor(data: np.ndarray) -> StoredTensor:
    return StoredTensor(TensorSpec("x", DType.BF16, (data.size // 2,)), data, "file")


def resident(data: np.ndarray) -> int:
    """Bytes of a mapped file that the process has in its own tables."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    for at, line in enumerate(lines):
        first, last = (int(place, 16) for place in line.split()[0].split("-")) if "-" in line.split()[0] else (0, 0)
        if first <= data.ctypes.data < last:
            return int(next(entry for entry in lines[at:] if entry.startswith("Rss:")).split()[1]) * 1024
    raise AssertionError("the file is mapped")


def test_a_file_that_has_another_name_by_now_is_the_one_that_was_mapped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    expected, data = path.read_bytes(), map_file(path)
    path.rename(tmp_path / "other")
    path.write_bytes(b"something else")
    refuse_cut(tensor(data))
    assert data.tobytes() == expected


@pytest.mark.parametrize("kept", [SIZE - 1, 1, 0])
def test_a_file_that_was_cut_short_is_told_instead_of_looked_at(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    x = tensor(map_file(path))
    refuse_cut(x)
    os.truncate(path, kept)
    with pytest.raises(FileError, match=rf"file: tensor .x.: the file was cut short .* found {kept} bytes"):
        refuse_cut(x)


def test_what_is_left_goes_out_of_the_process_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    data = map_file(path)
    assert data.tobytes() == path.read_bytes()
    assert resident(data) == SIZE
    leave(tensor(data), 100, SIZE // 2 - 100)
    assert resident(data) == 2 * mmap.PAGESIZE
    assert data.tobytes() == path.read_bytes()


def test_memory_that_is_no_file_is_not_lost() -> None:
    values = np.ones(SIZE, np.uint8)
    leave(tensor(values), 0, SIZE // 2)
    leave(tensor(values), 0, 0)
    assert (values == 1).all()
