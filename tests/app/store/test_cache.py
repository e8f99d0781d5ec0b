"""What a machine keeps of an object store: headers to plan with, and the files that were used last."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from app.settings import Settings
from app.store import cache, outlines
from app.store.blobs import Blobs
from merge_core.formats.safetensors_file import open_tensors
from tests.app.object_store import bucket, object_store

KIB = 1 << 10
FILE_BYTES = 64 * KIB


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with object_store() as url:
        yield url


@pytest.fixture
def settings(s3_endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An object store, and a machine with room for three files of FILE_BYTES; none is too recent to go."""
    name = secrets.token_hex(8)
    for variable, value in bucket(s3_endpoint, name).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(cache, "RECENT_S", -1.0)
    return Settings(data=tmp_path / "data", blob_url=f"s3://{name}/blobs", cache_bytes=3 * FILE_BYTES + 4 * KIB)


def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"data": tmp_path / "elsewhere"})


def kept(settings: Settings, part: str = "blobs") -> set[str]:
    return {path.name for path in (settings.data / "cache" / part).glob("*/*")}


def put(blobs: Blobs, seed: int) -> str:
    return blobs.put_bytes(np.random.default_rng(seed).bytes(FILE_BYTES))[0]


def used(settings: Settings, digest: str, at: float) -> None:
    path = settings.data / "cache" / "blobs" / digest[:2] / digest
    os.utime(path, (at, at))


def test_the_files_used_last_stay(settings: Settings) -> None:
    blobs = Blobs(settings)
    digests = [put(blobs, seed) for seed in range(3)]
    for age, digest in enumerate(digests):
        used(settings, digest, 1000.0 + age)
    blobs.local_path(digests[0])
    newest = put(blobs, 3)
    assert kept(settings) == {digests[0], digests[2], newest}
    assert blobs.local_path(digests[1]).stat().st_size == FILE_BYTES, "it is where it came from"


def test_what_a_job_works_with_stays_until_the_job_is_over(settings: Settings) -> None:
    blobs, job = Blobs(settings), Blobs(settings, holds=True)
    held = put(blobs, 0)
    path = job.local_path(held)
    used(settings, held, 1000.0)
    others = {put(blobs, seed) for seed in range(1, 6)}
    assert path.exists()
    assert len(kept(settings) & others) == 2
    job.close()
    put(blobs, 6)
    assert not path.exists()


def test_a_job_reads_what_it_has_just_made(settings: Settings, tmp_path: Path) -> None:
    job = Blobs(settings, holds=True)
    (tmp_path / "shard").write_bytes(b"shard")
    with job.open_upload() as upload:
        upload.write(b"side file")
        small, _ = upload.finish()
    large, _ = job.put_file(tmp_path / "shard")
    assert (job.local_path(small).read_bytes(), job.local_path(large).read_bytes()) == (b"side file", b"shard")
    job.close()


def test_a_file_that_was_just_asked_for_is_not_forgotten(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "RECENT_S", 60.0)
    blobs = Blobs(settings)
    assert {put(blobs, seed) for seed in range(6)} == kept(settings)


def test_planning_reads_the_header_and_what_is_no_weight(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlines, "OUTLINED_BYTES", 8 * KIB)
    weights = np.random.default_rng(0).standard_normal((512, 512), dtype=np.float32)
    digest, size = Blobs(settings).put_bytes(
        save({"w": weights, "ids": np.arange(500), "mask": np.ones(3, dtype=bool)})
    )
    machine = elsewhere(settings, tmp_path)
    blobs = Blobs(machine)
    outline = blobs.outline(digest, "model.safetensors")
    assert outline.stat().st_size == size
    assert outline.stat().st_blocks * 512 < size / 10
    assert kept(machine) == set()
    found = open_tensors(outline)
    assert found["w"].spec.shape == (512, 512)
    assert found["ids"].storage().tolist() == list(range(500))
    assert found["mask"].storage().all()
    assert open_tensors(blobs.local_path(digest))["w"].storage().tolist() == weights.ravel().tolist()
    assert blobs.outline(digest, "model.safetensors") == blobs.local_path(digest), "no hole where the whole is here"
    blobs.delete(digest)
    assert kept(machine) == kept(machine, "outlines") == set()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("adapter_model.safetensors", save({"w": np.zeros((64, 64), dtype=np.float32)})),
        ("model.safetensors", save({"q": np.ones((64, 512), dtype=np.int8)})),
        ("model.safetensors", b"\xff" * 20000),
        ("model.safetensors", save({"w": np.zeros(8, dtype=np.float32)})),
    ],
    ids=["an adapter", "mostly integers", "broken", "small"],
)
def test_other_files_are_fetched_whole(
    name: str, content: bytes, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlines, "OUTLINED_BYTES", 8 * KIB)
    digest, _ = Blobs(settings).put_bytes(content)
    machine = elsewhere(settings, tmp_path)
    assert Blobs(machine).outline(digest, name).read_bytes() == content
    assert kept(machine, "outlines") == set()
