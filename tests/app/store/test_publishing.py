from datetime import timedelta

import pytest

from app.store.records import EVERYBODY, FileEntry
from app.store.store import Store
from merge_core.errors import ConflictError, NotFoundError

ADDRESS = "1" * 64
MOMENT = timedelta(seconds=1)


def test_a_commit_comes_with_its_look_and_settles_what_was_sent(store: Store) -> None:
    store.record_blob(ADDRESS, 5, EVERYBODY)
    repo = store.create_repo("team", "math")
    commit, job = store.publish(repo, {"a": FileEntry("a", ADDRESS, 5)}, "one", EVERYBODY)
    assert job is not None
    assert (job.kind, job.subject_id, job.state) == ("ingest", f"team/math@{commit.id}", "queued")
    assert commit.author == EVERYBODY.name
    store.delete_repo(repo)
    assert ADDRESS in store.unneeded_blobs(-MOMENT)


def test_a_commit_that_changes_nothing_is_not_looked_at_again(store: Store) -> None:
    store.record_blob(ADDRESS, 5, EVERYBODY)
    repo = store.create_repo("team", "math")
    changes = {"a": FileEntry("a", ADDRESS, 5)}
    first, _ = store.publish(repo, changes, "one", EVERYBODY)
    assert store.publish(repo, changes, "two", EVERYBODY) == (first, None)
    assert len(store.due_jobs()) == 1


def test_a_commit_of_bytes_that_are_not_here_leaves_no_job(store: Store) -> None:
    repo = store.create_repo("team", "math")
    with pytest.raises(NotFoundError):
        store.publish(repo, {"a": FileEntry("a", ADDRESS, 5)}, "one", EVERYBODY)
    assert store.due_jobs() == []


def test_a_first_commit_brings_its_repo_along(store: Store) -> None:
    store.record_blob(ADDRESS, 5, EVERYBODY)
    changes = {"a": FileEntry("a", ADDRESS, 5)}
    commit, job = store.publish_first("team", "math", changes, "one", EVERYBODY)
    repo = store.require_repo("team/math")
    assert (repo.head, repo.kind, repo.private) == (commit.id, "files", False)
    assert store.due_jobs() == [job]
    store.delete_repo(repo)
    assert ADDRESS in store.unneeded_blobs(-MOMENT)


def test_a_first_commit_that_fails_leaves_no_repo(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.publish_first("team", "math", {"a": FileEntry("a", ADDRESS, 5)}, "one", EVERYBODY)
    assert store.get_repo("team", "math") is None


def test_a_name_that_is_taken_takes_no_first_commit(store: Store) -> None:
    store.record_blob(ADDRESS, 5, EVERYBODY)
    repo = store.create_repo("team", "math")
    with pytest.raises(ConflictError, match="taken"):
        store.publish_first("team", "math", {"a": FileEntry("a", ADDRESS, 5)}, "one", EVERYBODY)
    assert store.require_repo("team/math") == repo
