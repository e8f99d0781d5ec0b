from app.store.store import Store
from tests.app.store.conftest import keep


def test_hashes_are_kept_of_blobs_that_are_here(store: Store) -> None:
    here, other = keep(store, b"1").sha256, keep(store, b"2").sha256
    store.keep_git_oids({here: "a" * 40, "0" * 64: "b" * 40})
    store.keep_git_oids({here: "c" * 40})
    assert store.git_oids([here, other, "0" * 64]) == {here: "a" * 40}
    assert store.git_oids([f"{number:064x}" for number in range(2000)] + [here]) == {here: "a" * 40}
