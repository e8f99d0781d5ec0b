import os
import secrets
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.blobs import Blobs
from app.store.uploads import Upload
from merge_core.errors import ConflictError, FileError, NotFoundError
from tests.app.object_store import bucket, object_store

DATA = bytes(range(256)) * 5000
DIGEST = sha256(DATA).hexdigest()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with object_store() as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    data = tmp_path / "data"
    if request.param == "folder":
        return Settings(data=data)
    name = secrets.token_hex(8)
    for variable, value in bucket(request.getfixturevalue("s3_endpoint"), name).items():
        monkeypatch.setenv(variable, value)
    return Settings(data=data, blob_url=f"s3://{name}/blobs")


@pytest.fixture
def blobs(settings: Settings) -> Blobs:
    return Blobs(settings)


def send(upload: Upload, pieces: Iterable[bytes]) -> None:
    with upload:
        for piece in pieces:
            upload.write(piece)
        upload.finish()


def broken_off(data: bytes) -> Iterator[bytes]:
    yield data
    raise ConnectionError


def leftovers(settings: Settings) -> list[str]:
    return [path.name for path in settings.data.rglob("*.partial")]


def test_a_file_becomes_a_blob_and_reads_back(blobs: Blobs, settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(DATA)
    assert blobs.put_file(source) == (DIGEST, len(DATA))
    assert not source.exists()
    assert blobs.exists(DIGEST)
    assert blobs.size(DIGEST) == len(DATA)
    assert blobs.local_path(DIGEST).read_bytes() == DATA
    assert b"".join(blobs.read(DIGEST)) == DATA
    assert b"".join(blobs.read(DIGEST, 100, 70_000)) == DATA[100:70_000]
    assert leftovers(settings) == []


def test_another_machine_fetches_the_blob_once_and_checks_it(settings: Settings, tmp_path: Path) -> None:
    Blobs(settings).put_bytes(DATA)
    elsewhere = Blobs(settings.model_copy(update={"data": tmp_path / "elsewhere"}))
    assert b"".join(elsewhere.read(DIGEST, 3, 9)) == DATA[3:9]
    assert elsewhere.local_path(DIGEST).read_bytes() == DATA


def test_the_same_bytes_twice_are_one_blob(blobs: Blobs) -> None:
    assert blobs.put_bytes(DATA) == blobs.put_bytes(DATA)
    blobs.delete(DIGEST)
    blobs.delete(DIGEST)
    assert not blobs.exists(DIGEST)


def test_a_blob_that_is_not_there_is_not_found(blobs: Blobs) -> None:
    with pytest.raises(NotFoundError, match=DIGEST):
        blobs.local_path(DIGEST)
    with pytest.raises(NotFoundError):
        list(blobs.read(DIGEST))
    assert blobs.size(DIGEST) is None
    blobs.check()


def test_a_file_with_another_hash_is_refused(blobs: Blobs, tmp_path: Path) -> None:
    source = tmp_path / "weights"
    source.write_bytes(DATA)
    with pytest.raises(FileError, match=DIGEST):
        blobs.put_file(source, "0" * 64)
    assert not blobs.exists(DIGEST)


def test_an_upload_is_there_when_it_is_complete_and_not_before(blobs: Blobs, settings: Settings) -> None:
    with blobs.open_upload(DIGEST, len(DATA)) as upload:
        upload.write(DATA[:1000])
        assert not blobs.exists(DIGEST)
        upload.write(DATA[1000:])
        assert upload.finish() == (DIGEST, len(DATA))
    assert blobs.exists(DIGEST)
    assert leftovers(settings) == []


@pytest.mark.parametrize(
    ("sha256", "size", "sent"), [("0" * 64, None, [DATA]), (DIGEST, len(DATA) + 1, [DATA]), (None, 3, [b"ab"])]
)
def test_an_upload_that_is_not_as_announced_leaves_nothing(
    blobs: Blobs, settings: Settings, sha256: str | None, size: int | None, sent: list[bytes]
) -> None:
    with pytest.raises(FileError):
        send(blobs.open_upload(sha256, size), sent)
    assert leftovers(settings) == []
    assert not blobs.exists(DIGEST)


def test_more_bytes_than_announced_are_refused_at_once(blobs: Blobs, settings: Settings) -> None:
    with pytest.raises(FileError, match="more bytes"), blobs.open_upload(None, 3) as upload:
        upload.write(b"abcd")
    assert leftovers(settings) == []


def test_an_upload_that_breaks_off_leaves_nothing(blobs: Blobs, settings: Settings) -> None:
    with pytest.raises(ConnectionError):
        send(blobs.open_upload(), broken_off(DATA))
    assert leftovers(settings) == []


def test_an_upload_in_parts_goes_on_where_it_broke_off(blobs: Blobs, settings: Settings) -> None:
    with pytest.raises(ConnectionError):
        send(blobs.resume_upload("me", DIGEST, len(DATA)), broken_off(DATA[:70_000]))
    assert blobs.received("me", DIGEST) == 70_000
    assert blobs.received("you", DIGEST) == 0
    with Blobs(settings).resume_upload("me", DIGEST, len(DATA)) as upload:
        assert upload.received == 70_000
        upload.write(DATA[70_000:])
        assert upload.complete
        assert upload.finish() == (DIGEST, len(DATA))
    assert leftovers(settings) == []


def test_an_upload_in_parts_that_does_not_match_starts_anew(blobs: Blobs, settings: Settings) -> None:
    with pytest.raises(FileError):
        send(blobs.resume_upload("me", DIGEST, 3), [b"abc"])
    assert blobs.received("me", DIGEST) == 0
    assert leftovers(settings) == []


def test_two_requests_do_not_write_to_one_upload(blobs: Blobs) -> None:
    with blobs.resume_upload("me", DIGEST, len(DATA)) as upload:
        upload.write(DATA[:1000])
        for _ in range(2):
            with pytest.raises(ConflictError):
                blobs.resume_upload("me", DIGEST, len(DATA))
        blobs.clean_uploads()
        upload.write(DATA[1000:])
        assert upload.finish() == (DIGEST, len(DATA)), "who came second took nothing from who came first"


def test_uploads_of_yesterday_are_removed_and_those_of_today_stay(blobs: Blobs, settings: Settings) -> None:
    for owner in ("old", "new"):
        with blobs.resume_upload(owner, DIGEST, len(DATA)) as upload:
            upload.write(b"part")
    old = next(path for path in settings.uploads.iterdir() if blobs.received("old", DIGEST))
    yesterday = old.stat().st_mtime - 25 * 3600
    os.utime(old, (yesterday, yesterday))
    blobs.clean_uploads()
    assert blobs.received("old", DIGEST) + blobs.received("new", DIGEST) == 4
