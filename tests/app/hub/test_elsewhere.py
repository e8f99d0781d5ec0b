"""By setting, what is not here is asked of the upstream hub; the real client follows."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError, RepositoryNotFoundError

from app.settings import Settings
from tests.app.api.conftest import Pot, checkpoint, running, settings_for
from tests.app.hub.conftest import publish

FILES = {"config.json": b"{}", "model.safetensors": checkpoint(0)}


@pytest.fixture
def between(pot: Pot, tmp_path: Path, queue_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[HfApi]:
    """A client of a service in front of `pot`, which has `org/base`."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    publish(pot, "org/base", FILES)
    plain = settings_for(tmp_path / "front", queue_url).model_dump()
    settings = Settings(**{**plain, "upstream": pot.url, "upstream_redirect": True})
    with running(settings) as front:
        yield HfApi(endpoint=front.url, token=False)


def test_a_repo_that_is_only_upstream_is_read_from_there(between: HfApi) -> None:
    folder = Path(between.snapshot_download("org/base"))
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert Path(between.hf_hub_download("org/base", "config.json")).read_bytes() == b"{}"


def test_what_is_missing_there_too_is_missing(between: HfApi) -> None:
    with pytest.raises(RepositoryNotFoundError):
        between.model_info("org/none")
    with pytest.raises(RepositoryNotFoundError):
        between.hf_hub_download("org/none", "config.json")
    with pytest.raises(RemoteEntryNotFoundError):
        between.hf_hub_download("org/base", "nothing.json")


def test_what_is_here_is_not_asked_of_others(between: HfApi, pot: Pot) -> None:
    publish(pot, "team/there", FILES)
    assert between.model_info("team/there").sha == pot.inside.store.require_repo("team/there").head


def test_nobody_sees_by_the_operators_token_what_is_private_there(pot: Pot, tmp_path: Path, queue_url: str) -> None:
    owner = pot.token("write", namespaces=("org",))
    publish(pot, "org/secret", FILES, owner, private=True)
    plain = settings_for(tmp_path / "front", queue_url).model_dump()
    settings = Settings(**{**plain, "upstream": pot.url, "upstream_redirect": True, "upstream_token": owner})
    with running(settings) as front, front.client() as caller:
        answer = caller.head("/org/secret/resolve/main/model.safetensors")
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (401, "RepoNotFound")
    assert "etag" not in answer.headers
