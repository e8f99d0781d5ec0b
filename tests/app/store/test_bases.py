"""Known bases: found by their tensors, told only to those who may read them, gone with their commits."""

from hashlib import sha256

import pytest

from app.store.records import DeltaRecord, StoredHash
from app.store.store import Store
from app.store.subject import new_id, now
from merge_core.errors import NotFoundError
from tests.app.store.conftest import keep


def tensor(name: str, content: str, shape: tuple[int, ...] = (2, 3)) -> StoredHash:
    return StoredHash(name, "float32", shape, sha256(content.encode()).hexdigest(), "f" * 64, 64, 24)


def publish(store: Store, full_name: str, tensors: list[StoredHash], *, private: bool = False) -> str:
    """A repo that was found to be a base; its commit."""
    repo = store.ensure_repo(*full_name.split("/"), private)
    commit = store.commit(repo, {"model.safetensors": keep(store, full_name.encode())}, "one", "me")
    store.put_delta(DeltaRecord(new_id(), full_name, commit.id, None, "base", "checkpoint", "ok", None, {}, now()))
    store.put_base(full_name, commit.id, tensors, "llama")
    return commit.id


def test_tensors_come_back_as_they_were_kept_whatever_they_are_called(store: Store) -> None:
    tensors = [tensor("b", "1"), tensor("nul \0 and ☃", "2", ()), tensor("a" * 4000, "3", (1, 2, 3))]
    commit = publish(store, "org/base", tensors)
    known = store.known_base("org/base", commit)
    assert known is not None
    assert (known.name, known.model_type) == (f"org/base@{commit}", "llama")
    assert store.base_tensors(known.key) == tensors
    assert store.known_base("org/base", "0" * 40) is None
    store.put_base("org/base", commit, tensors[:1], None)
    assert store.base_tensors(known.key) == tensors[:1]
    with pytest.raises(NotFoundError):
        store.put_base("org/base", "0" * 40, tensors, None)


def test_bases_of_one_layout_have_equal_names_and_shapes_in_any_order(store: Store) -> None:
    one = [tensor("a", "1"), tensor("b", "2", (4,))]
    layouts = {}
    for name, tensors in {
        "org/one": one,
        "org/tuned": [tensor("b", "8", (4,)), tensor("a", "9")],
        "org/wide": [tensor("a", "1"), tensor("b", "2", (5,))],
    }.items():
        known = store.known_base(name, publish(store, name, tensors))
        assert known is not None
        layouts[name] = known.layout
    assert layouts["org/one"] == layouts["org/tuned"] != layouts["org/wide"]


def test_equal_tensors_are_counted_once_for_each_base_and_known_hashes_found_by_place(store: Store) -> None:
    first = publish(store, "org/one", [tensor("a", "1"), tensor("b", "2"), tensor("tied", "1")])
    known = store.known_base("org/one", first)
    assert known is not None
    wanted = [tensor("x", text).sha256 for text in ("1", "2", "3")]
    assert store.equal_tensors(wanted) == {known.key: 2}
    assert set(store.hashes_in(["f" * 64])) == {("f" * 64, 64, 24)}
    assert store.hashes_in(["e" * 64]) == {}
    store.delete_repo(store.require_repo("org/one"))
    assert store.equal_tensors(wanted) == {}
    assert store.base_tensors(known.key) == []


def test_a_repos_readers_learn_of_no_base_that_they_may_not_read(store: Store) -> None:
    for name, private in (("org/open", False), ("team/hidden", True), ("other/hidden", True)):
        publish(store, name, [tensor("a", name)], private=private)
    readers = {
        "team/public": (False, ["org/open"]),
        "team/private": (True, ["org/open", "team/hidden"]),
        "third/private": (True, ["org/open"]),
    }
    for name, (private, expected) in readers.items():
        reader = store.create_repo(*name.split("/"), private)
        assert [base.repo for base in store.known_bases(reader)] == expected


def test_a_repo_counts_with_its_newest_known_commit_and_not_for_itself(store: Store) -> None:
    publish(store, "org/base", [tensor("a", "1")])
    repo = store.require_repo("org/base")
    newer = store.commit(repo, {"model.safetensors": keep(store, b"newer")}, "two", "me")
    store.put_base("org/base", newer.id, [tensor("a", "2")], None)
    store.commit(repo, {"README.md": keep(store, b"not looked at yet")}, "three", "me")
    reader = store.create_repo("team", "lora")
    assert [base.commit for base in store.known_bases(reader)] == [newer.id]
    assert store.known_bases(repo) == []


def test_of_a_repo_only_what_is_on_main_counts(store: Store) -> None:
    """A pull request is not what a base is."""
    commit = publish(store, "org/base", [tensor("a", "1")])
    repo, reader = store.require_repo("org/base"), store.create_repo("team", "lora")
    for number in range(3):
        store.commit(repo, {"README.md": keep(store, bytes([number]))}, "card", "me")
    _, proposed = store.open_pull_request(repo, {"model.safetensors": keep(store, b"other")}, "Other", "you")
    store.put_base("org/base", proposed.id, [tensor("a", "2")], None)
    publish(store, "org/second", [tensor("a", "3")])
    assert [base.commit for base in store.known_bases(reader, "org/base")] == [commit]
    assert [base.repo for base in store.known_bases(reader)] == ["org/base", "org/second"]
