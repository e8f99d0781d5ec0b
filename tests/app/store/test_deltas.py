from dataclasses import replace

import pytest

from app.store.records import DeltaRecord
from app.store.store import Store
from app.store.subject import new_id, now
from merge_core.errors import NotFoundError
from tests.app.store.conftest import keep


def record(repo: str, commit: str, kind: str = "delta") -> DeltaRecord:
    return DeltaRecord(new_id(), repo, commit, "org/base", kind, "peft-lora", "ok", None, {"rank": 8}, now())


def test_a_finding_is_kept_for_its_commit_and_gives_the_repo_its_kind(store: Store) -> None:
    repo = store.create_repo("team", "math")
    commit = store.commit(repo, {"a": keep(store, b"1")}, "one", "me")
    assert store.delta_of(repo, commit.id) is None
    found = record("team/math", commit.id)
    store.put_delta(found)
    assert store.delta_of(repo, commit.id) == found
    assert store.get_delta(found.id, None) == found
    assert store.require_repo("team/math").kind == "delta"
    again = record("team/math", commit.id, "base")
    store.put_delta(again)
    assert store.delta_of(repo, commit.id) == again
    assert store.list_deltas(None).items == ()
    assert store.list_deltas(None, kind=None).items == (again,)


def test_a_finding_about_an_old_commit_does_not_change_the_repos_kind(store: Store) -> None:
    repo = store.create_repo("team", "math")
    old = store.commit(repo, {"a": keep(store, b"1")}, "one", "me")
    store.commit(repo, {"a": keep(store, b"2")}, "two", "me")
    store.put_delta(record("team/math", old.id))
    assert store.require_repo("team/math").kind == "files"


def test_a_finding_needs_its_commit(store: Store) -> None:
    store.create_repo("team", "math")
    with pytest.raises(NotFoundError):
        store.put_delta(record("team/math", "0" * 40))


def test_findings_in_private_repos_are_hidden(store: Store) -> None:
    repo = store.create_repo("team", "secret", private=True)
    commit = store.commit(repo, {"a": keep(store, b"1")}, "one", "me")
    found = record("team/secret", commit.id)
    store.put_delta(found)
    ours, _ = store.create_token("ours", {"read"}, {"team"})
    assert store.get_delta(found.id, None) is None
    assert store.list_deltas(None).items == ()
    assert store.list_deltas(ours).items == (found,)


def test_pages_of_deltas_add_up_newest_first(store: Store) -> None:
    moment = now()
    for number in range(5):
        repo = store.create_repo("team", f"r{number}")
        commit = store.commit(repo, {"a": keep(store, b"1")}, "one", "me")
        store.put_delta(replace(record(repo.full_name, commit.id), created_at=moment))
    first = store.list_deltas(None, limit=3)
    rest = store.list_deltas(None, limit=3, cursor=first.next_cursor)
    assert rest.next_cursor is None
    assert {delta.repo for delta in first.items + rest.items} == {f"team/r{number}" for number in range(5)}
