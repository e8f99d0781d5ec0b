"""Hashing a checkpoint's tensors: it stops when it is told to, and reads no byte twice."""

import pytest

from app.jobs import hashing, lease
from app.jobs.perform import do, take
from app.store.records import Commit, FileEntry
from tests.app.jobs.kitchen import TENSORS, Kitchen


def look(place: Kitchen, repo: str, commit: Commit, *, cancelled: bool = False) -> str:
    """Look at the commit; the state that the job ends in."""
    job = place.jobs.submit_ingest(place.store.require_repo(repo), commit)
    work = take(place.settings, place.store, job.id)
    assert work is not None
    if cancelled:
        place.jobs.cancel(job.id)
    do(work)
    return place.job(job.id).state


def test_a_cancelled_look_hashes_nothing_more_and_a_later_one_does(
    place: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "INTERVAL_S", 0.0)
    commit = place.store.head(place.store.require_repo("org/base"))
    assert look(place, "org/base", commit, cancelled=True) == "cancelled"
    assert place.store.known_base("org/base", commit.id) is None
    assert look(place, "org/base", commit) == "done"
    known = place.store.known_base("org/base", commit.id)
    assert known is not None
    assert len(place.store.base_tensors(known.key)) == TENSORS


def test_a_file_that_was_hashed_for_another_commit_is_not_read_again(
    place: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = place.store.require_repo("org/base")
    first = place.store.head(repo)
    look(place, "org/base", first)
    sha256, size = place.blobs.put_bytes(b"# A model")
    place.store.record_blob(sha256, size)
    second = place.store.commit(repo, {"README.md": FileEntry("README.md", sha256, size)}, "card", "me")
    monkeypatch.setattr(hashing, "sha256", None)
    assert look(place, "org/base", second) == "done"
    tensors = []
    for commit in (first, second):
        known = place.store.known_base("org/base", commit.id)
        assert known is not None
        tensors.append(place.store.base_tensors(known.key))
    assert tensors[0] == tensors[1]
