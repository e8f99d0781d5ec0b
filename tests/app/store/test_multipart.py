"""Parts of one upload, written side by side, and never into what is a blob already."""

from hashlib import sha256
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.blobs import Blobs
from merge_core.errors import ConflictError, FileError, NotFoundError

BODY = bytes(range(256)) * 40
DIGEST = sha256(BODY).hexdigest()
SIZE = len(BODY)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(Settings(data=tmp_path))


def silent(sha256: str, size: int) -> None: ...


def test_parts_become_the_blob_that_was_announced(blobs: Blobs) -> None:
    told: list[tuple[str, int]] = []
    half = SIZE // 2
    later = blobs.parts.open("me", DIGEST, SIZE, half, SIZE)
    with later as second, blobs.parts.open("me", DIGEST, SIZE, 0, half) as first:
        second.write(BODY[half:])
        first.write(BODY[: half // 2])
        first.write(BODY[half // 2 : half])
    blobs.parts.complete("me", DIGEST, SIZE, lambda sha256, size: told.append((sha256, size)))
    assert told == [(DIGEST, SIZE)]
    assert b"".join(blobs.read(DIGEST)) == BODY
    with pytest.raises(NotFoundError):
        blobs.parts.complete("me", DIGEST, SIZE, silent)


def test_a_hole_is_seen_and_throws_all_away(blobs: Blobs, tmp_path: Path) -> None:
    with blobs.parts.open("me", DIGEST, SIZE, 100, SIZE) as part:
        part.write(BODY[100:])
    with pytest.raises(FileError, match="not what was announced"):
        blobs.parts.complete("me", DIGEST, SIZE, silent)
    assert list((tmp_path / "uploads").iterdir()) == []
    assert not blobs.exists(DIGEST)


def test_what_is_more_than_a_part_is_refused(blobs: Blobs) -> None:
    with blobs.parts.open("me", DIGEST, SIZE, 10, 20) as part:
        part.write(b"x" * 8)
        assert part.missing == 2
        with pytest.raises(FileError, match="more bytes"):
            part.write(b"x" * 3)


def test_others_parts_are_not_ours(blobs: Blobs) -> None:
    with blobs.parts.open("me", DIGEST, SIZE, 0, SIZE) as part:
        part.write(BODY)
    with pytest.raises(NotFoundError):
        blobs.parts.complete("you", DIGEST, SIZE, silent)


def test_a_late_part_cannot_change_what_is_a_blob(blobs: Blobs) -> None:
    late = blobs.parts.open("me", DIGEST, SIZE, 0, SIZE)
    with late, blobs.parts.open("me", DIGEST, SIZE, 0, SIZE) as part:
        part.write(BODY)
        blobs.parts.complete("me", DIGEST, SIZE, silent)
        with pytest.raises(ConflictError, match="completed or thrown away"):
            late.write(b"x" * 10)
    assert b"".join(blobs.read(DIGEST)) == BODY


def test_nothing_is_written_while_the_parts_are_joined(blobs: Blobs) -> None:
    with blobs.parts.open("me", DIGEST, SIZE, 0, SIZE) as part:
        part.write(BODY)
    with blobs.parts.open("me", DIGEST, SIZE, 0, SIZE) as other:

        def meddle(sha256: str, size: int) -> None:
            for act in (lambda: other.write(b"x"), lambda: blobs.parts.complete("me", DIGEST, SIZE, silent)):
                with pytest.raises(ConflictError, match="another request"):
                    act()

        blobs.parts.complete("me", DIGEST, SIZE, meddle)
    assert b"".join(blobs.read(DIGEST)) == BODY
