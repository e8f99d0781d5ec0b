"""Real clients publish: files small and large, folders, deletions and copies; and what is unchanged stays."""

from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from tests.app.api.conftest import Pot, checkpoint
from tests.app.hub.conftest import Hub

REPO = "team/mine"

# huggingface_hub 2.4 sends large files in a way that its own HTTP library warns of
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture(autouse=True)
def by_lfs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client with a repo of its own."""
    api = hub("whatever")
    api.create_repo(REPO)
    return api


def files(pot: Pot, name: str = REPO, revision: str = "main") -> dict[str, bytes]:
    store = pot.inside.store
    commit = store.resolve_revision(store.require_repo(name), revision)
    return {entry.path: b"".join(pot.inside.blobs.read(entry.sha256)) for entry in store.tree(commit)}


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def test_a_folder_arrives_as_it_is(pot: Pot, api: HfApi, tmp_path: Path) -> None:
    content = {
        "README.md": b"---\nlicense: mit\n---\nhello",
        "deep/er/config.json": b"{}",
        "w.safetensors": checkpoint(0),
    }
    for path, data in content.items():
        target = tmp_path / "folder" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    told = api.upload_folder(
        repo_id=REPO, folder_path=tmp_path / "folder", commit_message="All", commit_description="Of it"
    )
    assert files(pot) == content
    assert told.oid == pot.inside.store.require_repo(REPO).head
    assert pot.inside.store.head(pot.inside.store.require_repo(REPO)).message == "All\n\nOf it"
