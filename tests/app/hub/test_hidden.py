"""What is private is not there for strangers; what is gated is there, and its files are not."""

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from tests.app.api.conftest import Pot, checkpoint
from tests.app.hub.conftest import Hub, publish

FILES = {"README.md": b"---\ntags: [unspoken]\n---\n", "config.json": b"{}", "model.safetensors": checkpoint(0)}
READS = (
    ("GET", "/api/models/{}"),
    ("GET", "/api/models/{}?blobs=true&expand=sha"),
    ("GET", "/api/models/{}/revision/main"),
    ("GET", "/api/models/{}/revision/none"),
    ("GET", "/api/models/{}/tree/main?recursive=true"),
    ("GET", "/api/models/{}/tree/main/none"),
    ("POST", "/api/models/{}/paths-info/main"),
    ("GET", "/api/models/{}/refs?include_prs=1"),
    ("GET", "/api/models/{}/commits/main"),
    ("GET", "/api/models/{}/discussions"),
    ("GET", "/api/models/{}/discussions/1"),
    ("GET", "/api/models/{}/auth-check"),
    ("HEAD", "/{}/resolve/main/config.json"),
    ("GET", "/{}/resolve/main/config.json"),
    ("GET", "/{}/resolve/main/none.json"),
    ("GET", "/{}/raw/none/config.json"),
)
WRITES = (
    ("POST", "/api/models/{}/branch/new"),
    ("DELETE", "/api/models/{}/branch/new"),
    ("POST", "/api/models/{}/tag/main"),
    ("DELETE", "/api/models/{}/tag/new"),
    ("POST", "/api/models/{}/super-squash/main"),
    ("POST", "/api/models/{}/preupload/main"),
    ("POST", "/api/models/{}/commit/main"),
    ("POST", "/{}.git/info/lfs/objects/batch"),
    ("GET", "/api/models/{}/xet-write-token/main"),
    ("PUT", "/api/models/{}/settings"),
)
FIELDS = {"tag": "v1", "files": [], "operation": "upload", "objects": []}
OF_FILES = ("tree", "paths-info", "auth-check", "resolve", "raw")


@dataclass
class Doors:
    """A service with a private and a gated repo of `team`, and who may come by."""

    pot: Pot
    owner: str
    strangers: tuple[str | None, ...]


@pytest.fixture
def doors(pot: Pot) -> Doors:
    owner, stranger = pot.token("write", namespaces=("team",)), pot.token("admin", namespaces=("others",))
    publish(pot, "team/secret", FILES, owner, private=True)
    publish(pot, "team/gated", FILES, owner)
    store = pot.inside.store
    store.set_gate(store.require_repo("team/gated"), "manual")
    return Doors(pot, owner, (stranger, None))


def asked(caller: httpx.Client, routes: tuple[tuple[str, str], ...], name: str) -> Iterator[tuple[str, httpx.Response]]:
    for method, path in routes:
        body = {"data": {"paths": "config.json"}} if "paths" in path else {"json": FIELDS}
        yield path, caller.request(method, path.format(name), **({} if method == "GET" else body))  # type: ignore[arg-type]


def told(answer: httpx.Response, name: str) -> tuple[int, dict[str, str], str]:
    kept = {key: value for key, value in answer.headers.items() if key not in ("date", "x-request-id")}
    return (
        answer.status_code,
        {key: value.replace(name, "NAME") for key, value in kept.items()},
        answer.text.replace(name, "NAME"),
    )


def test_a_hidden_repo_and_a_missing_one_have_the_same_answers(doors: Doors) -> None:
    for secret in doors.strangers:
        with doors.pot.client(secret) as caller:
            hidden, missing = (
                [told(answer, name) for _, answer in asked(caller, READS + WRITES, name)]
                for name in ("team/secret", "team/absent")
            )
        assert hidden == missing
        assert {status for status, *_ in hidden} == {401 if secret is None else 404}


def test_what_is_taken_in_a_namespace_is_its_own_business(doors: Doors, hub: Hub) -> None:
    stranger = hub(doors.strangers[0])
    for name in ("team/secret", "team/absent"):
        with pytest.raises(HfHubHTTPError) as error:
            stranger.create_repo(name, exist_ok=False)
        assert error.value.response.status_code == 403
        with pytest.raises(HfHubHTTPError) as error:
            stranger.move_repo("others/mine", name)
        assert error.value.response.status_code == 404
        with pytest.raises(RepositoryNotFoundError):
            stranger.delete_repo(name)
    stranger.create_repo("others/mine")
    for name in ("team/secret", "team/absent"):
        with pytest.raises(HfHubHTTPError) as error:
            stranger.move_repo("others/mine", name)
        assert error.value.response.status_code == 403


def test_every_answer_of_a_hidden_repo_names_the_exception(doors: Doors, hub: Hub) -> None:
    for secret in doors.strangers:
        api = hub(secret)
        for look in (
            api.model_info,
            api.list_repo_refs,
            api.list_repo_commits,
            api.auth_check,
            lambda name, api=api: api.get_paths_info(name, "config.json"),
            lambda name, api=api: list(api.list_repo_tree(name)),
            lambda name, api=api: list(api.get_repo_discussions(name)),
            lambda name, api=api: api.hf_hub_download(name, "config.json"),
            lambda name, api=api: api.snapshot_download(name),
        ):
            with pytest.raises(RepositoryNotFoundError):
                look("team/secret")
        assert not api.repo_exists("team/secret")


def test_no_list_names_what_is_hidden(doors: Doors, hub: Hub) -> None:
    for secret in doors.strangers:
        for wish in ({}, {"search": "secret"}, {"author": "team"}, {"filter": "unspoken"}, {"sort": "created_at"}):
            names = [model.id for model in hub(secret).list_models(full=True, **wish)]
            assert "team/secret" not in names
    assert {model.id for model in hub(doors.owner).list_models(filter="unspoken")} == {"team/gated", "team/secret"}
    me = hub(doors.strangers[0] or "").whoami()
    assert [me["name"], *(org["name"] for org in me["orgs"])] == ["others"]


def test_a_gated_repo_is_shown_and_its_files_are_not(doors: Doors, hub: Hub) -> None:
    for secret in doors.strangers:
        api = hub(secret)
        info = api.model_info("team/gated")
        assert info.gated == "manual"
        assert {file.rfilename for file in info.siblings or ()} == set(FILES)
        assert api.repo_exists("team/gated")
        for look in (
            api.auth_check,
            lambda name, api=api: api.get_paths_info(name, "config.json"),
            lambda name, api=api: list(api.list_repo_tree(name)),
            lambda name, api=api: api.hf_hub_download(name, "config.json"),
            lambda name, api=api: api.snapshot_download(name),
        ):
            with pytest.raises(GatedRepoError) as error:
                look("team/gated")
            assert error.value.response.status_code == (401 if secret is None else 403)
        with doors.pot.client(secret) as caller:
            for path, answer in asked(caller, READS, "team/gated"):
                is_closed = answer.headers.get("X-Error-Code") == "GatedRepo"
                assert is_closed == any(part in path for part in OF_FILES), path
    assert hub(doors.owner).hf_hub_download("team/gated", "config.json")
    assert [m.id for m in hub().list_models(gated=True)] == ["team/gated"]


def test_a_gated_file_is_nobodys_who_knows_its_hash(doors: Doors, hub: Hub) -> None:
    stranger = doors.strangers[0]
    listed = hub(stranger).model_info("team/gated", files_metadata=True)
    weights = next(file.lfs for file in listed.siblings or () if file.lfs)
    assert weights is not None
    wish = {"files": [{"path": "mine.safetensors", "sha256": weights.sha256}]}
    with doors.pot.client(stranger) as caller:
        assert caller.post("/v1/repos/others/mine/commits", json=wish).status_code == 422
        assert caller.get("/v1/repos/team/gated/files/config.json").status_code == 403


def test_nobody_publishes_with_a_token_that_is_unknown(doors: Doors, hub: Hub) -> None:
    api = hub("hf_wrong")
    for act in (
        lambda: api.model_info("team/gated"),
        lambda: api.create_tag("team/gated", tag="v1"),
        lambda: list(api.list_models()),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            act()
        assert error.value.response.status_code == 401
        assert not isinstance(error.value, RepositoryNotFoundError)
