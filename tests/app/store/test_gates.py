from pathlib import Path

import pytest

from app.settings import Settings
from app.store.blobs import Blobs
from app.store.records import EVERYBODY, DeltaRecord, FileEntry, Gate, Repo, Token, may_read, may_read_files
from app.store.resolve import StoreResolve
from app.store.store import Store
from app.store.subject import now
from merge_core.errors import GatedError, NotFoundError


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(Settings(data=tmp_path))


@pytest.fixture
def repo(store: Store, blobs: Blobs) -> Repo:
    """A public repo with one file and what was found in it."""
    made = store.create_repo("team", "math")
    digest, size = blobs.put_bytes(b"{}")
    store.record_blob(digest, size)
    commit = store.commit(made, {"a": FileEntry("a", digest, size)}, "one", "me")
    store.put_delta(DeltaRecord("d" * 32, "team/math", commit.id, None, "delta", "peft-lora", "ok", None, {}, now()))
    return store.require_repo("team/math")


@pytest.fixture
def callers(store: Store) -> dict[str, Token | None]:
    ours, theirs = (store.create_token(name, {"read"}, {name})[0] for name in ("team", "other"))
    return {"nobody": None, "theirs": theirs, "ours": ours, "everybody": EVERYBODY}


@pytest.mark.parametrize("gate", ["auto", "manual"])
def test_all_see_a_gated_repo_and_its_namespace_alone_reads_it(
    store: Store, blobs: Blobs, repo: Repo, callers: dict[str, Token | None], gate: Gate
) -> None:
    digest = store.tree(store.head(repo))[0].sha256
    gated = store.set_gate(repo, gate)
    assert (gated.gated, gated.head) == (gate, repo.head)
    for name, caller in callers.items():
        inside = name in ("ours", "everybody")
        assert may_read(caller, gated)
        assert [found.full_name for found in store.list_repos(caller).items] == ["team/math"]
        assert may_read_files(caller, gated) is inside
        assert store.may_read_blob(caller, digest) is inside
        assert (store.get_delta("d" * 32, caller) is not None) is inside
        assert bool(store.list_deltas(caller).items) is inside
        resolve = StoreResolve(store, blobs, caller)
        if inside:
            assert resolve("team/math").hashes == {"a": digest}
        else:
            with pytest.raises(GatedError, match="team"):
                resolve("team/math")


def test_an_open_gate_lets_all_read_again(store: Store, repo: Repo, callers: dict[str, Token | None]) -> None:
    store.set_gate(store.set_gate(repo, "manual"), "")
    assert all(may_read_files(caller, store.require_repo("team/math")) for caller in callers.values())
    assert all(store.list_deltas(caller).items for caller in callers.values())


def test_who_has_sent_bytes_or_reads_them_elsewhere_keeps_them(
    store: Store, repo: Repo, callers: dict[str, Token | None]
) -> None:
    entry, theirs = store.tree(store.head(repo))[0], callers["theirs"]
    store.set_gate(repo, "auto")
    store.record_blob(entry.sha256, entry.size, theirs)
    assert store.may_read_blob(theirs, entry.sha256)
    assert not store.may_read_blob(None, entry.sha256)
    store.commit(store.create_repo("other", "copy"), {"a": entry}, "one", "me")
    assert store.may_read_blob(None, entry.sha256)


def test_a_private_repo_behind_a_gate_is_not_there_for_others(
    store: Store, blobs: Blobs, repo: Repo, callers: dict[str, Token | None]
) -> None:
    hidden = store.set_visibility(store.set_gate(repo, "auto"), True)
    assert (hidden.private, hidden.gated) == (True, "auto")
    assert [may_read_files(caller, hidden) for caller in callers.values()] == [False, False, True, True]
    with pytest.raises(NotFoundError):
        StoreResolve(store, blobs, callers["theirs"])("team/math")
    assert [bool(store.list_repos(caller).items) for caller in callers.values()] == [False, False, True, True]
    assert may_read(None, store.set_visibility(hidden, False))


def test_a_composition_goes_where_its_repo_goes(store: Store) -> None:
    made = store.create_composition("soups/mix", {}, "d" * 64, {}, [1], private=True)
    assert store.list_compositions(None).items == ()
    store.set_visibility(store.require_repo("soups/mix"), False)
    assert [found.private for found in store.list_compositions(None).items] == [False]
    assert store.list_compositions(None).items[0].id == made.id


def test_a_repo_that_is_gone_is_not_changed(store: Store, repo: Repo) -> None:
    store.delete_repo(repo)
    for change in (lambda: store.set_gate(repo, "auto"), lambda: store.set_visibility(repo, True)):
        with pytest.raises(NotFoundError):
            change()
