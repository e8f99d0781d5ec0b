"""The real application on a real server, and the real client library in front of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from tests.app.api.conftest import Pot, client, pot, queue_url

__all__ = ["client", "pot", "queue_url"]

Hub = Callable[..., HfApi]

BY_LFS = [
    pytest.mark.usefixtures("without_xet"),
    # huggingface_hub 2.4 sends large files in a way that its own HTTP library warns of
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
]
"""The marks of tests whose clients send large files by LFS."""


@pytest.fixture
def without_xet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


@pytest.fixture
def hub(pot: Pot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A client of the Hub protocol for each token; without one, anonymous. Its caches are of this test alone."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))

    def made(secret: str | None = None) -> HfApi:
        return HfApi(endpoint=pot.url, token=secret or False)

    return made


def publish(pot: Pot, name: str, files: dict[str, bytes], secret: str | None = None, private: bool = False) -> None:
    """Put files in a repo by our own routes."""
    with pot.client(secret) as caller:
        if private:
            caller.put(f"/v1/repos/{name}", json={"private": True}).raise_for_status()
        for path, content in files.items():
            caller.put(f"/v1/repos/{name}/files/{path}", content=content).raise_for_status()


def held(pot: Pot, name: str, revision: str = "main") -> dict[str, bytes]:
    """The files of a revision."""
    store = pot.inside.store
    commit = store.resolve_revision(store.require_repo(name), revision)
    return {entry.path: b"".join(pot.inside.blobs.read(entry.sha256)) for entry in store.tree(commit)}


@contextmanager
def refused(status: int, words: str | None = None) -> Iterator[None]:
    """What is within is refused with this status, and a message with these words."""
    with pytest.raises(HfHubHTTPError, match=words) as error:
        yield
    assert error.value.response.status_code == status
