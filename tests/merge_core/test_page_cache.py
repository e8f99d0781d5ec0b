"""Bytes of mapped files are brought into memory before they are looked at, and leave it without harm."""

import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from merge_core.errors import FileError
from merge_core.formats.safetensors_file import map_file, open_tensors
from merge_core.page_cache import bring_in, is_present, leave
from merge_core.stored import StoredTensor

SIZE = 64 * mmap.PAGESIZE


def cold(path: Path) -> StoredTensor:
    """A tensor of a file that is on the disk alone."""
    save_file({"x": np.frombuffer(os.urandom(SIZE), np.float32)}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return open_tensors(path)["x"]


def test_bytes_that_are_on_the_disk_alone_are_brought_into_memory(tmp_path: Path) -> None:
    tensor = cold(tmp_path / "file")
    bring_in(tensor, 100, tensor.spec.size + 2000)
    assert is_present(tensor.storage())
    assert tensor.data.tobytes() == (tmp_path / "file").read_bytes()[-SIZE:]


def test_a_file_that_has_another_name_by_now_is_left_where_it_is_mapped(tmp_path: Path) -> None:
    tensor = cold(tmp_path / "file")
    expected = (tmp_path / "file").read_bytes()[-SIZE:]
    (tmp_path / "file").rename(tmp_path / "other")
    (tmp_path / "file").write_bytes(b"something else")
    bring_in(tensor, 0, tensor.spec.size)
    assert not tensor.can_read()
    assert tensor.data.tobytes() == expected


def test_a_file_that_was_cut_short_is_told_instead_of_looked_at(tmp_path: Path) -> None:
    tensor = cold(tmp_path / "file")
    os.truncate(tmp_path / "file", SIZE // 2)
    with pytest.raises(FileError, match=r"file: tensor 'x': the file was cut short while it was read"):
        bring_in(tensor, 0, tensor.spec.size)


def resident(data: np.ndarray) -> int:
    """Bytes of a mapped file that the process has in its own tables."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    for at, line in enumerate(lines):
        if line.startswith(f"{data.ctypes.data:x}-"):
            return int(next(entry for entry in lines[at:] if entry.startswith("Rss:")).split()[1]) * 1024
    raise AssertionError("the file is mapped")


def test_what_is_left_goes_out_of_the_process_and_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    data = map_file(path)
    assert data.tobytes() == path.read_bytes()
    assert resident(data) == SIZE
    leave(data.view(np.uint16)[100:-100])
    assert resident(data) == 2 * mmap.PAGESIZE
    assert data.tobytes() == path.read_bytes()


def test_memory_that_is_no_file_is_not_lost() -> None:
    values = np.ones(SIZE)
    leave(values)
    leave(values[:0])
    assert (values == 1).all()
