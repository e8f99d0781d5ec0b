"""A folder of blobs of which some are packed: whoever asks for bytes cannot tell which."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
import pytest
from safetensors.numpy import save

from app.settings import Settings
from app.store import cache, outlines
from app.store.blobs import Blobs
from app.store.packed_shelf import PackedShelf
from merge_core.errors import FileError, NotFoundError
from merge_core.formats.safetensors_file import open_tensors
from merge_core.packing import Known, Origin, pack

AT_ONCE = -1.0
ELEMENTS = 1 << 19


def checkpoint(step: float) -> bytes:
    draw, away = np.random.default_rng(0), np.random.default_rng(1)
    weights = draw.standard_normal(ELEMENTS, dtype=np.float32)
    moved = weights + np.float32(step) * away.standard_normal(ELEMENTS, dtype=np.float32)
    return save({"a": weights, "b": moved, "ids": np.arange(500)}, {"format": "pt"})


BASE, FINE = checkpoint(0.0), checkpoint(1e-4)
BASE_DIGEST, DIGEST = sha256(BASE).hexdigest(), sha256(FINE).hexdigest()


def shelf_of(blobs: Blobs) -> PackedShelf:
    shelf = blobs.packing_shelf
    assert shelf is not None
    return shelf


def packed_against(shelf: PackedShelf, digest: str, base: str, partial: Path) -> Path:
    """The packed form of a blob that is here, not yet on the shelf."""
    tensors = open_tensors(shelf.fetch(base))

    def like(spec):
        return Origin(sha256=base, begin=tensors[spec.name].begin), tensors[spec.name].data

    pack(shelf.fetch(digest), partial, digest, Known(like))
    return partial


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path / "data")


@pytest.fixture
def blobs(settings: Settings, tmp_path: Path) -> Iterator[Blobs]:
    """With the fine-tune there in both forms."""
    blobs = Blobs(settings)
    blobs.put_bytes(BASE)
    blobs.put_bytes(FINE)
    shelf = shelf_of(blobs)
    shelf.take_packed(packed_against(shelf, DIGEST, BASE_DIGEST, tmp_path / "packed"), DIGEST)
    yield blobs
    blobs.close()


@pytest.fixture
def packed(blobs: Blobs) -> Blobs:
    """With nothing but the packed form."""
    assert shelf_of(blobs).drop_plain(DIGEST, AT_ONCE)
    return blobs


def names(settings: Settings, part: str = "blobs") -> set[str]:
    return {path.name for path in (settings.data / part).rglob("*") if path.is_file()}


def test_a_packed_blob_reads_as_if_it_were_not(packed: Blobs, settings: Settings) -> None:
    assert names(settings) == {BASE_DIGEST, f"{DIGEST}.packed"}
    assert (packed.size(DIGEST), packed.exists(DIGEST)) == (len(FINE), True)
    assert b"".join(packed.read(DIGEST)) == FINE
    for start, stop in ((0, 0), (5, 6), (300_000, 1_500_001), (len(FINE) - 1, len(FINE))):
        assert b"".join(packed.read(DIGEST, start, stop)) == FINE[start:stop]
    assert names(settings, "cache") == set(), "reading restores nothing"
    assert packed.local_path(DIGEST).read_bytes() == FINE
    assert names(settings, "cache") == {DIGEST}


def test_the_bytes_stay_while_somebody_may_be_about_to_open_them(blobs: Blobs) -> None:
    shelf = shelf_of(blobs)
    path = blobs.local_path(DIGEST)
    assert not shelf.drop_plain(DIGEST)
    assert path.read_bytes() == FINE
    long_ago = path.stat().st_mtime - 2 * cache.RECENT_S
    os.utime(path, (long_ago, long_ago))
    with path.open("rb") as opened:
        assert shelf.drop_plain(DIGEST)
        assert opened.read() == FINE
    assert blobs.local_path(DIGEST).read_bytes() == FINE


def test_bytes_without_a_packed_form_are_never_dropped(blobs: Blobs) -> None:
    assert not shelf_of(blobs).drop_plain(BASE_DIGEST, AT_ONCE)
    assert blobs.local_path(BASE_DIGEST).read_bytes() == BASE


def test_planning_reads_an_outline_of_a_packed_checkpoint(
    packed: Blobs, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert packed.outline(DIGEST, "model.safetensors").read_bytes() == FINE, "a small one is restored"
    monkeypatch.setattr(outlines, "OUTLINED_BYTES", 1 << 16)
    monkeypatch.setattr(cache, "RECENT_S", AT_ONCE)
    Blobs(settings.model_copy(update={"cache_bytes": 0})).tidy()
    outline = packed.outline(DIGEST, "model.safetensors")
    assert outline.stat().st_size == len(FINE)
    assert outline.stat().st_blocks * 512 < len(FINE) / 10
    assert open_tensors(outline)["ids"].storage().tolist() == list(range(500))


def test_a_packed_file_is_taken_from_another_disk(blobs: Blobs, settings: Settings) -> None:
    """Copied before, so that taking it is a rename."""
    shelf, before = shelf_of(blobs), names(settings)
    with NamedTemporaryFile(dir="/dev/shm", delete=False) as file:
        file.write(shelf.packed_path(DIGEST).read_bytes())
    with shelf.brought_near(Path(file.name), DIGEST) as near:
        shelf.take_packed(near, DIGEST)
    assert not Path(file.name).exists()
    assert names(settings) == before


def test_the_same_bytes_sent_again_change_nothing(packed: Blobs, settings: Settings) -> None:
    assert packed.put_bytes(FINE) == (DIGEST, len(FINE))
    assert names(settings) == {BASE_DIGEST, f"{DIGEST}.packed"}
    assert names(settings, "uploads") == set()


def test_removing_a_blob_removes_every_form_of_it(blobs: Blobs, settings: Settings) -> None:
    blobs.delete(DIGEST)
    assert names(settings) == {BASE_DIGEST}
    assert not blobs.exists(DIGEST)
    with pytest.raises(NotFoundError):
        blobs.local_path(DIGEST)
    with pytest.raises(NotFoundError):
        blobs.read(DIGEST, 0, 1)


def test_a_restored_copy_goes_with_its_blob(packed: Blobs, settings: Settings) -> None:
    packed.local_path(DIGEST)
    packed.delete(DIGEST)
    assert names(settings) == {BASE_DIGEST}
    assert names(settings, "cache") == set()


def test_a_damaged_packed_file_is_never_handed_out(packed: Blobs, settings: Settings) -> None:
    path = shelf_of(packed).packed_path(DIGEST)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.unlink()
    path.write_bytes(raw)
    with pytest.raises(FileError):
        packed.local_path(DIGEST)
    assert names(settings, "cache") == set()
