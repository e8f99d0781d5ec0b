"""Reading ahead is a hint: it brings mapped bytes into memory, and never does harm."""

import mmap
import os
import time
from pathlib import Path

import numpy as np

from merge_core.formats.safetensors_file import map_file
from merge_core.read_ahead import is_present, leave, will_need

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
