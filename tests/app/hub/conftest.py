"""The real application on a real server, and the real client library in front of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.app.api.conftest import Pot, client, pot, queue_url

__all__ = ["client", "pot", "queue_url"]

Hub = Callable[..., HfApi]


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
