"""Xorbs are kept while clients may name them, and are nobody's business who has neither sent them nor may read them."""

from datetime import datetime, timedelta
from hashlib import sha256

import pytest
from sqlalchemy import select, update

from app.store.blob_records import AT_ONCE
from app.store.records import EVERYBODY, Repo, Token
from app.store.store import Store
from app.store.tables import repos
from app.store.xorb_tables import xorbs
from app.store.xorbs import XorbRange, joined
from tests.app.store.conftest import keep
from tests.app.store.test_garbage import collected

HASH = "a" * 64
ALL = XorbRange(HASH, 0, 9)
NOW = timedelta(seconds=-1)


def token(store: Store, *namespaces: str) -> Token:
    return store.create_token("test", {"write"}, namespaces)[0]


def sent(store: Store, owner: Token, content: bytes = b"xorb", hash: str = HASH) -> str:
    """Do what an upload of a xorb does to the records; its blob."""
    blob = sha256(content).hexdigest()
    store.announce_blob(blob, len(content), owner=owner)
    store.keep_xorb(hash, blob, len(content), owner)
    return blob


def touched_at(store: Store) -> datetime:
    with store._database.read() as connection:
        return connection.execute(select(xorbs.c.touched_at)).scalar_one()


def gate(store: Store, repo: Repo, how: str) -> None:
    with store._database.write() as connection:
        connection.execute(update(repos).where(repos.c.id == repo.id).values(gated=how))


def test_its_sender_may_name_a_xorb_and_a_stranger_may_not(store: Store) -> None:
    me, stranger = token(store, "team"), token(store, "other")
    blob = sent(store, me)
    assert store.name_xorbs({ALL}, me) == {HASH: blob}
    assert store.name_xorbs({ALL}, stranger) == {}
    assert store.name_xorbs({XorbRange("b" * 64, 0, 1)}, stranger) == {}
    assert store.name_xorbs({ALL}, EVERYBODY) == {HASH: blob}, "all that is here is open to a token of every namespace"


def test_it_is_new_to_each_who_sends_it_for_the_first_time(store: Store) -> None:
    """The answer does not tell that somebody else has sent it."""
    blob = sha256(b"xorb").hexdigest()
    mine, yours = token(store, "team"), token(store, "other")
    assert [store.keep_xorb(HASH, blob, 4, owner) for owner in (mine, mine, yours, yours)] == [True, False, True, False]


def test_the_bytes_that_came_first_stay_and_others_of_the_same_chunks_go(store: Store) -> None:
    me, you = token(store, "team"), token(store, "other")
    first = sent(store, me)
    second = sent(store, you, b"the same chunks, compressed otherwise")
    assert store.name_xorbs({ALL}, you) == {HASH: first}
    assert collected(store) == {second}


def test_a_xorb_keeps_its_bytes_until_nobody_has_named_it_for_long(store: Store) -> None:
    me = token(store, "team")
    blob = sent(store, me)
    assert collected(store) == set()
    assert store.forget_xorbs(timedelta(hours=1)) == 0
    assert store.forget_xorbs(NOW) == 1
    assert store.name_xorbs({ALL}, me) == {}
    assert collected(store) == {blob}


def test_naming_a_xorb_keeps_it_and_a_stranger_s_try_does_not(store: Store) -> None:
    me, stranger = token(store, "team"), token(store, "other")
    sent(store, me)
    before = touched_at(store)
    store.name_xorbs({ALL}, stranger)
    assert touched_at(store) == before
    store.name_xorbs({ALL}, me)
    assert touched_at(store) > before


@pytest.mark.parametrize(
    ("private", "gated", "namespace", "may"),
    [(False, "", "other", True), (True, "", "other", False), (True, "", "team", True), (False, "auto", "other", False)],
)
def test_who_may_read_a_file_may_name_its_chunks_and_no_others(
    store: Store, private: bool, gated: str, namespace: str, may: bool
) -> None:
    me, you = token(store, "team"), token(store, namespace)
    blob, file = sent(store, me), keep(store, b"a file of two ranges")
    store.note_xorb_file(file.sha256, [XorbRange(HASH, 5, 7), XorbRange(HASH, 1, 3), XorbRange(HASH, 3, 4)])
    assert store.name_xorbs({XorbRange(HASH, 1, 2)}, you) == {}
    repo = store.create_repo("team", "math", private=private)
    gate(store, repo, gated)
    store.commit(repo, {"a": file}, "one", "me")
    named = {HASH: blob} if may else {}
    assert store.name_xorbs({XorbRange(HASH, 2, 4), XorbRange(HASH, 5, 6)}, you) == named
    assert store.name_xorbs({XorbRange(HASH, 3, 6)}, you) == {}
    assert store.name_xorbs({XorbRange(HASH, 1, 2), ALL}, you) == {}


def test_the_sender_of_a_file_may_name_its_chunks_under_another_token_s_xorb(store: Store) -> None:
    me, you = token(store, "team"), token(store, "other")
    blob = sent(store, me)
    store.record_blob("f" * 64, 5, you)
    store.note_xorb_file("f" * 64, [XorbRange(HASH, 0, 2)])
    assert store.name_xorbs({XorbRange(HASH, 0, 2)}, you) == {HASH: blob}


def test_a_forgotten_file_takes_its_ranges_along(store: Store) -> None:
    me = token(store, "team")
    sent(store, me)
    file = keep(store, b"never committed")
    store.note_xorb_file(file.sha256, [XorbRange(HASH, 0, 2)])
    assert collected(store) == {file.sha256}
    repo = store.create_repo("team", "math")
    store.commit(repo, {"a": keep(store, b"never committed")}, "one", "me")
    assert store.name_xorbs({XorbRange(HASH, 0, 2)}, token(store, "other")) == {}


def test_ranges_that_touch_or_overlap_become_one() -> None:
    pieces = [("b", 0, 1), ("a", 4, 6), ("a", 0, 2), ("a", 2, 3), ("a", 5, 9)]
    found = joined(XorbRange(*piece) for piece in pieces)
    assert found == [("a", 0, 3), ("a", 4, 9), ("b", 0, 1)]


def test_more_xorbs_than_one_question_holds_are_all_found(store: Store) -> None:
    me = token(store, "team")
    hashes = [f"{number:064x}" for number in range(AT_ONCE + 100)]
    blob = sent(store, me)
    for hash in hashes:
        store.keep_xorb(hash, blob, 4, me)
    assert set(store.name_xorbs({XorbRange(hash, 0, 1) for hash in hashes}, me)) == set(hashes)
