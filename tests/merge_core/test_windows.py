"""Windows read a file's elements as its mapping has them, and do without the file where it is another by now."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from merge_core.errors import FileError
from merge_core.formats.safetensors_file import open_tensors
from merge_core.windows import LEAST_BYTES, MOST_BYTES, Window, window_bytes

SIZE = 5 * LEAST_BYTES


def model(path: Path, seed: int = 0) -> Path:
    draw = np.random.default_rng(seed)
    save_file({"odd": np.ones(3, np.uint8), "w": draw.standard_normal(SIZE, dtype=np.float32)}, path)
    return path


@pytest.mark.parametrize("surveyed", [True, False])
@pytest.mark.parametrize("elements", [100, LEAST_BYTES, MOST_BYTES])
def test_chunks_are_those_of_the_mapped_file(elements: int, surveyed: bool, tmp_path: Path) -> None:
    tensor = open_tensors(model(tmp_path / "model.safetensors"))["w"]
    window = Window(tensor, elements, surveyed)
    for start in (0, 1, SIZE // 2, SIZE - 7):
        size = min(elements, SIZE - start)
        found, label = window.stored(start, size)
        assert label == "float32"
        assert np.array_equal(found, tensor.storage()[start : start + size])


def test_a_file_that_has_taken_another_ones_name_is_not_read(tmp_path: Path) -> None:
    path = model(tmp_path / "model.safetensors")
    tensor = open_tensors(path)["w"]
    model(tmp_path / "other.safetensors", seed=1).replace(path)
    assert np.array_equal(Window(tensor, SIZE, False).read(0, SIZE), tensor.storage())
    path.unlink()
    assert np.array_equal(Window(tensor, SIZE, False).read(0, SIZE), tensor.storage())


def test_a_file_that_is_cut_short_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = model(tmp_path / "model.safetensors")
    window = Window(open_tensors(path)["w"], SIZE, False)
    window.read(0, SIZE)
    with path.open("r+b") as stream:
        stream.truncate(SIZE)
    with pytest.raises(FileError, match=r"model\.safetensors: tensor 'w'"):
        window.read(0, SIZE)


def test_memory_is_counted_for_chunks_that_are_neither_small_nor_large(tmp_path: Path) -> None:
    tensor = open_tensors(model(tmp_path / "model.safetensors"))["w"]
    assert window_bytes(tensor, LEAST_BYTES // 4 - 1) == 0
    assert window_bytes(tensor, LEAST_BYTES // 4) == LEAST_BYTES
    assert window_bytes(tensor, 2 * SIZE) == 4 * SIZE
    assert MOST_BYTES >= 4 * SIZE
