"""Which blobs are packed against which, on both databases: what is needed stays, and two do not do the same."""

from datetime import timedelta
from hashlib import sha256

import pytest

from app.store.packings import Place
from app.store.records import Repo, StoredHash
from app.store.store import Store
from merge_core.errors import ConflictError
from tests.app.store.conftest import keep

AT_ONCE = timedelta(seconds=-1)


def published(store: Store, name: str, content: bytes, *, private: bool = False) -> str:
    repo = store.ensure_repo(*name.split("/"), private=private)
    entry = keep(store, content, "model.safetensors")
    store.commit(repo, {entry.path: entry}, "one", "me")
    return entry.sha256


def record(store: Store, digest: str, *origins: str, was_there: bool = False) -> list[str]:
    """Record a packing; what was put in place."""
    done: list[str] = []
    store.record_packing(digest, 10, origins, is_packed=lambda: was_there, install=lambda: done.append(digest))
    return done


def collected(store: Store) -> set[str]:
    gone: set[str] = set()
    return {digest for digest in store.unneeded_blobs(AT_ONCE) if store.collect_blob(digest, gone.add)}


def test_an_origin_stays_for_as_long_as_what_leans_on_it(store: Store) -> None:
    base, fine = published(store, "big/base", b"base"), published(store, "big/fine", b"fine")
    assert record(store, fine, base) == [fine]
    assert (store.has_packing(fine), store.has_packing(base)) == (True, False)
    assert (store.is_origin(base), store.is_origin(fine), store.origins_of(fine)) == (True, False, {base})
    store.delete_repo(store.require_repo("big/base"))
    assert collected(store) == set()
    store.delete_repo(store.require_repo("big/fine"))
    assert collected(store) == {fine}
    assert collected(store) == {base}
    assert store.whole_packings() == []


def test_nothing_is_packed_against_what_is_gone_or_going(store: Store) -> None:
    base, fine = published(store, "big/base", b"base"), published(store, "big/fine", b"fine")
    with pytest.raises(ConflictError, match="gone"):
        record(store, fine, sha256(b"never here").hexdigest())
    store.delete_repo(store.require_repo("big/base"))

    def remove(digest: str) -> None:
        raise OSError(digest)

    with pytest.raises(OSError, match=base):
        store.collect_blob(base, remove)
    with pytest.raises(ConflictError, match="gone"):
        record(store, fine, base)
    assert not store.has_packing(fine)


def test_what_cannot_be_put_in_place_is_not_recorded(store: Store) -> None:
    base, fine = published(store, "big/base", b"base"), published(store, "big/fine", b"fine")

    def install() -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        store.record_packing(fine, 10, [base], is_packed=lambda: False, install=install)
    assert not store.has_packing(fine)
    assert not store.is_origin(base)


def test_there_is_no_circle_and_nothing_is_packed_twice(store: Store) -> None:
    base, fine = published(store, "big/base", b"base"), published(store, "big/fine", b"fine")
    record(store, fine, base)
    with pytest.raises(ConflictError, match="others"):
        record(store, base, fine)
    with pytest.raises(ConflictError, match="already"):
        record(store, fine, base, was_there=True)
    assert record(store, fine, base) == [fine], "its packed file was lost"


def test_bytes_are_dropped_once_and_not_while_a_job_is_to_read_them(store: Store) -> None:
    base, fine = published(store, "big/base", b"base"), published(store, "big/fine", b"fine")
    record(store, fine, base)
    build = store.create_composition("soups/mix", {}, "0" * 64, {}, [1], inputs=[fine])
    assert not store.drop_plain(fine, lambda digest: True)
    store.request_cancel(build.job_id)
    assert not store.drop_plain(fine, lambda digest: False), "somebody has just asked for it"
    assert store.whole_packings() == [fine]
    assert store.drop_plain(fine, lambda digest: True)
    assert store.whole_packings() == []


def test_what_blobs_take_counts_the_packed_form(store: Store) -> None:
    base, fine = published(store, "big/base", b"base" * 100), published(store, "big/fine", b"fine" * 100)
    assert (store.stored_bytes(), store.stored_bytes([fine]), store.stored_bytes([])) == (800, 400, 0)
    record(store, fine, base)
    assert (store.stored_bytes(), store.stored_bytes([fine])) == (410, 10)


def tensor(blob: str, begin: int) -> StoredHash:
    return StoredHash("w", "float32", (4, 4), "f" * 64, blob, begin, 64)


def test_an_equal_tensor_is_found_where_whoever_asks_may_read(store: Store) -> None:
    secret = published(store, "secret/base", b"secret", private=True)
    asking, mine = store.ensure_repo("me", "model"), store.ensure_repo("secret", "other", private=True)
    heads = {name: store.head(store.require_repo(name)).id for name in ("secret/base",)}
    store.put_base("secret/base", heads["secret/base"], [tensor(secret, 8)], None)

    def found(reader: Repo, *besides: str) -> Place | None:
        return store.equal_tensor(reader, "f" * 64, 64, besides=set(besides))

    assert found(asking) is None
    assert found(mine) == Place(secret, 8)
    assert found(mine, secret) is None
    public = published(store, "open/base", b"public")
    store.put_base("open/base", store.head(store.require_repo("open/base")).id, [tensor(public, 16)], None)
    assert found(asking) == Place(public, 16)
    assert store.equal_tensor(asking, "f" * 64, 65, besides=set()) is None
