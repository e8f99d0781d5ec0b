"""Reading ahead is a hint: it brings mapped bytes into memory, and never does harm."""

import mmap
import os
import time
from pathlib import Path

import numpy as np

from merge_core.formats.safetensors_file import map_file
from merge_core.read_ahead import is_present, will_need

SIZE = 64 * mmap.PAGESIZE


def test_bytes_that_left_memory_come_back_in_the_background(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    data = map_file(path)
    will_need(data[100:-100])
    deadline = time.monotonic() + 30
    while not is_present(data[-200:-100]):
        assert time.monotonic() < deadline
    assert data.tobytes() == path.read_bytes()


def test_memory_that_is_no_file_and_nothing_at_all_are_left_alone() -> None:
    values = np.ones(SIZE)
    will_need(values[3:])
    will_need(values[:0])
    assert is_present(values)
    assert (values == 1).all()
