"""Processes killed half way through an upload or a removal leave nothing behind once somebody has cleared up."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.blobs import Blobs
from app.store.clearing import clear_up
from app.store.records import FileEntry
from app.store.store import Store, open_store
from tests.app.object_store import bucket, object_store
from tests.app.store.conftest import new_database
from tests.app.store.dying import CONTENT

DIGEST = sha256(CONTENT).hexdigest()
AT_ONCE = timedelta(seconds=-1)


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    with object_store() as url:
        yield url


@pytest.fixture(params=["one machine", "postgresql and s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    data = tmp_path / "data"
    if request.param == "one machine":
        return Settings(data=data)
    name = secrets.token_hex(8)
    for variable, value in bucket(request.getfixturevalue("s3_endpoint"), name).items():
        monkeypatch.setenv(variable, value)
    database_url = new_database(request.getfixturevalue("postgres_server"))
    return Settings(data=data, database_url=database_url, blob_url=f"s3://{name}/blobs")


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    store = open_store(settings)
    yield store
    store.close()


def killed_at(step: str, settings: Settings, digest: str = DIGEST) -> None:
    """A process that gets so far and no further."""
    command = [sys.executable, "-m", "tests.app.store.dying", step, digest]
    environment = {**os.environ, **settings.environment()}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.kill()


def cleared_up(settings: Settings, store: Store) -> set[str]:
    """What a service does at its start, and its reconciler after that; the blobs that it removes."""
    blobs = Blobs(settings)
    blobs.tidy()
    clear_up(settings, store)
    store.abandon_arrivals()  # which a service with records elsewhere leaves to time
    return {digest for digest in store.unneeded_blobs(AT_ONCE) if store.collect_blob(digest, blobs.delete)}


def left(settings: Settings) -> list[str]:
    """Files of uploads and blobs, and the blob in question where it is kept elsewhere."""
    places = (settings.uploads, settings.data / "blobs", settings.data / "cache")
    files = [path.name for place in places for path in place.rglob("*") if path.is_file()]
    return files + ([DIGEST] if Blobs(settings).exists(DIGEST) else [])


@pytest.mark.parametrize("step", ["written", "announced", "taken"])
def test_an_upload_killed_half_way_leaves_nothing(step: str, settings: Settings, store: Store) -> None:
    killed_at(step, settings)
    assert left(settings)
    assert not store.blob_known(DIGEST)
    assert cleared_up(settings, store) == ({DIGEST} if step != "written" else set())
    assert left(settings) == []
    assert store.count_blobs() == (0, 0)


def test_an_upload_killed_half_way_takes_nothing_from_who_has_the_same_bytes(settings: Settings, store: Store) -> None:
    blobs = Blobs(settings)
    store.record_blob(*blobs.put_bytes(CONTENT))
    store.commit(store.create_repo("team", "math"), {"a": FileEntry("a", DIGEST, len(CONTENT))}, "one", "me")
    killed_at("taken", settings)
    assert cleared_up(settings, store) == set()
    assert b"".join(blobs.read(DIGEST)) == CONTENT
    assert store.blob_known(DIGEST)


def test_a_removal_killed_half_way_is_finished_by_the_next_and_sent_bytes_come_back(
    settings: Settings, store: Store
) -> None:
    blobs = Blobs(settings)
    store.record_blob(*blobs.put_bytes(CONTENT))
    killed_at("removed", settings)
    assert not store.blob_known(DIGEST), "the row says that the bytes may be gone"
    found, size = blobs.put_bytes(CONTENT, store.announce_blob)
    store.record_blob(found, size)
    assert blobs.local_path(DIGEST).read_bytes() == CONTENT
    assert cleared_up(settings, store) == {DIGEST}
    assert left(settings) == []


def test_bytes_without_a_record_go_from_one_s_own_folder_and_stay_anywhere_else(tmp_path: Path) -> None:
    """As a power cut leaves them; a folder of blobs that was named may be another service's too."""
    for name, blob_url in (("own", ""), ("shared", (tmp_path / "elsewhere").as_uri())):
        settings = Settings(data=tmp_path / name, blob_url=blob_url)
        store, blobs = open_store(settings), Blobs(settings)
        kept = blobs.put_bytes(b"recorded")
        store.record_blob(*kept)
        lost, _ = blobs.put_bytes(b"unrecorded")
        clear_up(settings, store)
        assert blobs.exists(kept[0])
        assert blobs.exists(lost) == (name == "shared")
        store.close()
