from hashlib import sha256
from pathlib import Path

import pytest

from app.settings import Settings
from app.store.blobs import Blobs
from app.store.records import EVERYBODY, FileEntry, Repo
from app.store.resolve import StoreResolve
from app.store.store import Store
from merge_core.errors import NotFoundError


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(Settings(data=tmp_path))


def published(store: Store, blobs: Blobs, name: str, private: bool = False) -> Repo:
    repo = store.create_repo("team", name, private)
    digest, size = blobs.put_bytes(b"{}")
    store.record_blob(digest, size)
    store.commit(repo, {"config.json": FileEntry("config.json", digest, size)}, "one", "me")
    return repo


def test_a_source_is_pinned_to_its_commit_with_files_and_hashes(store: Store, blobs: Blobs) -> None:
    head = store.head(published(store, blobs, "math"))
    resolve = StoreResolve(store, blobs, None)
    for name in ("team/math", "team/math@main", f"team/math@{head.id}", f"team/math@{head.id[:8]}"):
        source = resolve(name)
        assert source.name == f"team/math@{head.id}"
        assert source.hashes == {"config.json": sha256(b"{}").hexdigest()}
        assert source.files["config.json"].read_bytes() == b"{}"


def test_what_is_missing_is_named_beside_what_is_near(store: Store, blobs: Blobs) -> None:
    published(store, blobs, "math")
    resolve = StoreResolve(store, blobs, None)
    with pytest.raises(NotFoundError, match=r"team/mth.*team/math"):
        resolve("team/mth")
    with pytest.raises(NotFoundError, match=r"mian.*main"):
        resolve("team/math@mian")
    for name in ("", "team", "@", "/", "team/math/x", "team/math@" + "0" * 40):
        with pytest.raises(NotFoundError):
            resolve(name)


def test_a_hidden_repo_looks_like_one_that_does_not_exist(store: Store, blobs: Blobs) -> None:
    published(store, blobs, "secret", private=True)
    with pytest.raises(NotFoundError) as hidden:
        StoreResolve(store, blobs, None)("team/secret")
    with pytest.raises(NotFoundError) as absent:
        StoreResolve(store, blobs, None)("team/absent")
    assert str(hidden.value).replace("secret", "absent") == str(absent.value)
    assert StoreResolve(store, blobs, EVERYBODY)("team/secret").files
