from app.store.records import EVERYBODY
from app.store.store import Store
from tests.app.store.conftest import keep


def test_a_blob_may_be_read_where_a_repo_with_it_may(store: Store) -> None:
    ours, _ = store.create_token("ours", {"write"}, {"team"})
    theirs, _ = store.create_token("theirs", {"write"}, {"other"})
    hidden, shown = keep(store, b"hidden"), keep(store, b"shown")
    store.commit(store.create_repo("team", "secret", private=True), {"a": hidden}, "one", "me")
    store.commit(store.create_repo("team", "open"), {"a": shown}, "one", "me")
    callers = (None, theirs, ours, EVERYBODY)
    assert [store.may_read_blob(caller, hidden.sha256) for caller in callers] == [False, False, True, True]
    assert all(store.may_read_blob(caller, shown.sha256) for caller in callers)
    assert not store.may_read_blob(EVERYBODY, "0" * 64)


def test_who_has_sent_a_blob_may_read_it_and_others_not_yet(store: Store) -> None:
    ours, _ = store.create_token("ours", {"write"}, {"team"})
    theirs, _ = store.create_token("theirs", {"write"}, {"other"})
    for _ in range(2):
        store.record_blob("1" * 64, 5, ours)
    assert store.may_read_blob(ours, "1" * 64)
    assert not store.may_read_blob(theirs, "1" * 64)
    assert store.blob_size("1" * 64) == 5
    assert store.blob_known("1" * 64)
    assert not store.blob_known("2" * 64)
    assert store.count_blobs() == (1, 5)
