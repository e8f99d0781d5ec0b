"""Real clients read repos: what they are, their trees, their files."""

from hashlib import sha256
from pathlib import Path

import pytest
from huggingface_hub import get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError

from app.store.git_hashes import git_oid
from tests.app.api.conftest import Pot, checkpoint
from tests.app.hub.conftest import Hub, publish

CARD = b"---\nbase_model: org/base\ntags: [merge]\n---\n# Hello\n"
WEIGHTS = checkpoint(0)
FILES = {"README.md": CARD, "config.json": b"{}", "model.safetensors": WEIGHTS, "deep/er/notes.txt": b"text"}


def test_a_client_downloads_a_whole_repo(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    folder = Path(hub().snapshot_download("team/one"))
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES


def test_a_client_sees_commit_card_and_files(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    info = hub().model_info("team/one", files_metadata=True)
    large = next(file for file in info.siblings or () if file.rfilename == "model.safetensors")
    assert info.sha == pot.inside.store.require_repo("team/one").head
    assert info.card_data is not None
    assert info.card_data["base_model"] == "org/base"
    assert {"merge", "base_model:org/base"} <= set(info.tags or ())
    assert large.lfs is not None
    assert large.lfs.sha256 == sha256(WEIGHTS).hexdigest()


def test_a_tree_has_folders_or_goes_into_them(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    assert {entry.path for entry in hub().list_repo_tree("team/one")} == {
        "README.md",
        "config.json",
        "deep",
        "model.safetensors",
    }
    assert {entry.path for entry in hub().list_repo_tree("team/one", "deep", recursive=True)} == {
        "deep/er",
        "deep/er/notes.txt",
    }
    with pytest.raises(RemoteEntryNotFoundError):
        list(hub().list_repo_tree("team/one", "nowhere"))


def test_a_long_tree_comes_in_pages(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", {f"part-{index}.txt": b"x" for index in range(5)})
    with pot.client() as caller:
        first = caller.get("/api/models/team/one/tree/main?recursive=true&limit=2")
        assert [entry["path"] for entry in first.json()] == ["part-0.txt", "part-1.txt"]
        second = caller.get(first.links["next"]["url"])
        assert [entry["path"] for entry in second.json()] == ["part-2.txt", "part-3.txt"]


def test_entity_tags_are_git_hashes_of_small_files_and_sha256_of_large_ones(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    small = get_hf_file_metadata(hf_hub_url("team/one", "config.json", endpoint=pot.url))
    large = get_hf_file_metadata(hf_hub_url("team/one", "model.safetensors", endpoint=pot.url))
    assert (small.etag, small.size) == (git_oid(b"{}"), 2)
    assert (large.etag, large.size) == (sha256(WEIGHTS).hexdigest(), len(WEIGHTS))


def test_what_is_missing_has_an_exception_of_its_own(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    with pytest.raises(RemoteEntryNotFoundError) as entry:
        hub().hf_hub_download("team/one", "nothing.json")
    assert entry.value.response.headers["X-Repo-Commit"] == pot.inside.store.require_repo("team/one").head
    with pytest.raises(RevisionNotFoundError):
        hub().hf_hub_download("team/one", "config.json", revision="no/such")
    for name in ("team/none", "none"):
        with pytest.raises(RepositoryNotFoundError):
            hub().model_info(name)


def test_a_private_repo_looks_like_none(pot: Pot, hub: Hub) -> None:
    mine, theirs = pot.token("write", namespaces=("team",)), pot.token("write", namespaces=("others",))
    publish(pot, "team/secret", FILES, mine, private=True)
    assert hub(mine).model_info("team/secret").private
    for secret, status in ((theirs, 404), (None, 401)):
        for name in ("team/secret", "team/none"):
            with pytest.raises(RepositoryNotFoundError) as error:
                hub(secret).model_info(name)
            assert error.value.response.status_code == status


def test_an_unknown_token_is_told_so(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    pot.token("read")
    with pot.client("hf_unknown") as caller:
        answer = caller.get("/api/models/team/one")
    assert answer.status_code == 401
    assert answer.headers["X-Error-Message"] == "Invalid credentials in Authorization header"
    assert "X-Error-Code" not in answer.headers


def test_a_repo_without_commits_has_no_files(pot: Pot, hub: Hub) -> None:
    with pot.client() as caller:
        caller.put("/v1/repos/team/empty", json={}).raise_for_status()
    assert hub().list_repo_files("team/empty") == []
    hub().snapshot_download("team/empty")
