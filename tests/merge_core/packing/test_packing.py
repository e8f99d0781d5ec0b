"""Checkpoints packed against a base: every byte back, any range alone, and no broken file that does harm."""

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from merge_core.errors import CancelledError, FileError
from merge_core.formats.safetensors_file import map_file, open_tensors
from merge_core.packing import Known, Origin, Packed, Packing, pack
from merge_core.packing.index import BLOCK
from merge_core.stored import StoredTensor

SIZE = BLOCK // 2 + 1000
FLOATS = (torch.bfloat16, torch.float16, torch.float32, torch.float64)


class Plain:
    def __init__(self, path: Path) -> None:
        self._data = map_file(path)

    def read(self, start: int, stop: int) -> np.ndarray:
        return self._data[start:stop]


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def checkpoint(path: Path, step: float = 0.0) -> Path:
    """Weights of every float type, buffers, and odd shapes; `step` away from those of step 0."""
    start, away = torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)
    tensors = {"ids": torch.arange(50)[None], "empty": torch.zeros(0, 4), "flag": torch.tensor(True)}
    for dtype in FLOATS:
        values = torch.randn(SIZE, generator=start) + step * torch.randn(SIZE, generator=away)
        tensors[f"weight.{dtype}"] = values.to(dtype)
    tensors["kept"] = torch.randn(300, 7, generator=start)
    save_file(tensors, path)
    return path


def place(file: Path, tensor: StoredTensor) -> Origin:
    return Origin(sha256=digest(file), begin=tensor.begin)


def known(*bases: Path) -> Known:
    """Tensors of the same name and shape in the first file, and equal bytes in any."""
    named = open_tensors(bases[0])
    equal = {
        (sha256(tensor.data).hexdigest(), tensor.data.size): (place(base, tensor), tensor.data)
        for base in bases
        for tensor in open_tensors(base).values()
    }

    def like(spec):
        tensor = named.get(spec.name)
        return (place(bases[0], tensor), tensor.data) if tensor is not None and tensor.spec == spec else None

    return Known(like, lambda found, nbytes: equal.get((found, nbytes)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packing")
    checkpoint(folder / "base")
    checkpoint(folder / "fine", step=1e-3)
    return folder


def opened(folder: Path, name: str = "fine.packed") -> Packed:
    plain = {digest(path): path for path in folder.iterdir() if "packed" not in path.name}
    return Packed(folder / name, lambda found: Plain(plain[found]))


@pytest.fixture(scope="module")
def packing(folder: Path) -> Packing:
    return pack(folder / "fine", folder / "fine.packed", digest(folder / "fine"), known(folder / "base"))


def test_every_byte_comes_back(folder: Path, packing: Packing, tmp_path: Path) -> None:
    opened(folder).restore(tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (folder / "fine").read_bytes()
    assert packing.size == (folder / "fine").stat().st_size
    assert packing.stored == (folder / "fine.packed").stat().st_size


def test_a_difference_takes_less_than_the_best_of_a_general_compressor(folder: Path, packing: Packing) -> None:
    assert packing.by_kind["difference"] == SIZE * (2 + 2 + 4 + 8)
    assert packing.stored < len(zstandard.compress((folder / "fine").read_bytes(), 19))


def test_what_equals_the_base_costs_nothing(folder: Path, tmp_path: Path) -> None:
    packing = pack(folder / "base", tmp_path / "packed", digest(folder / "base"), known(folder / "base"))
    assert packing.stored < 3000
    assert packing.tensors == {}
    assert packing.origins == {digest(folder / "base")}


def test_a_tensor_that_any_file_has_is_stored_once(folder: Path, packing: Packing, tmp_path: Path) -> None:
    moved = tmp_path / "moved"
    save_file({f"other.{name}": tensor for name, tensor in load_file(folder / "fine").items()}, moved)
    against = known(folder / "base", folder / "fine")
    assert pack(moved, tmp_path / "moved.packed", digest(moved), against).stored < 3000
    files = {digest(folder / "base"): Plain(folder / "base"), digest(folder / "fine"): opened(folder)}
    back = Packed(tmp_path / "moved.packed", files.__getitem__)
    assert bytes(back.read(0, back.size)) == moved.read_bytes()


def test_without_a_base_it_is_never_worse_than_zstd(folder: Path, tmp_path: Path) -> None:
    packing = pack(folder / "fine", tmp_path / "packed", digest(folder / "fine"))
    assert packing.stored <= len(zstandard.compress((folder / "fine").read_bytes(), 3))
    assert "difference" not in packing.by_kind
    assert packing.origins == frozenset()


@given(st.data())
def test_any_range_is_read_alone(folder: Path, packing: Packing, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, packing.size))
    stop = data.draw(st.integers(start, min(packing.size, start + 3 * BLOCK)))
    assert bytes(opened(folder).read(start, stop)) == (folder / "fine").read_bytes()[start:stop]


@given(st.data())
def test_a_damaged_file_is_refused_or_harmless(folder: Path, packing: Packing, data: st.DataObject) -> None:
    raw = bytearray((folder / "fine.packed").read_bytes())
    kind = data.draw(st.sampled_from(["cut", "byte"]))
    place = data.draw(st.integers(0, len(raw) - 1))
    if kind == "cut":
        del raw[place:]
    else:
        raw[place] ^= data.draw(st.integers(1, 255))
    (folder / "damaged.packed").write_bytes(raw)
    with pytest.raises(FileError):
        opened(folder, "damaged.packed").restore(folder / "back.packed")


def test_a_frame_that_claims_a_terabyte_is_refused_before_it_is_given_memory(folder: Path, tmp_path: Path) -> None:
    frame = b"\x28\xb5\x2f\xfd" + b"\xe0" + (1 << 40).to_bytes(8, "little") + b"\x01\x00\x00"
    bomb = tmp_path / "bomb.packed"
    bomb.write_bytes(b"STKPACK1" + frame + len(frame).to_bytes(8, "little") + b"STKPACK1")
    with pytest.raises(FileError, match="claims too much"):
        opened_alone(bomb)


def opened_alone(path: Path) -> Packed:
    return Packed(path, lambda found: pytest.fail(found))


def test_a_cancelled_packing_stops(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        pack(folder / "fine", tmp_path / "packed", digest(folder / "fine"), cancelled=lambda: True)


def test_a_file_that_is_not_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"no model")
    with pytest.raises(FileError):
        pack(tmp_path / "text", tmp_path / "packed", digest(tmp_path / "text"))
