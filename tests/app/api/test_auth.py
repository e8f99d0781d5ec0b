"""Who may do what: open service, scopes, namespaces, private repos, revoked tokens."""

from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from app.main import create_app
from app.settings import Settings
from merge_core.errors import InputError
from tests.app.api.conftest import Pot

CALLERS = ("nobody", "stranger", "reader", "other_writer", "writer", "admin")


@dataclass
class Guarded:
    """A service with tokens, and in `team` a public and a private repo."""

    pot: Pot
    secrets: dict[str, str | None]

    def ask(self, who: str, method: str, path: str, **options: object) -> httpx.Response:
        with self.pot.client(self.secrets[who]) as client:
            return client.request(method, path, **options)


@pytest.fixture
def guarded(pot: Pot) -> Guarded:
    secrets = {
        "nobody": None,
        "stranger": "pot_of_gold",
        "reader": pot.token("read", namespaces=("team",)),
        "writer": pot.token("write", namespaces=("team",)),
        "other_writer": pot.token("write", namespaces=("other",)),
        "admin": pot.token("admin"),
    }
    with pot.client(secrets["writer"]) as client:
        client.put("/v1/repos/team/hidden", json={"private": True}).raise_for_status()
        for repo in ("public", "hidden"):
            client.put(f"/v1/repos/team/{repo}/files/a.txt", content=b"a").raise_for_status()
    return Guarded(pot, secrets)


@pytest.mark.parametrize(
    ("method", "path", "body", "statuses"),
    [  # nobody, stranger, reader, other_writer, writer, admin
        ("GET", "/healthz", None, (200, 200, 200, 200, 200, 200)),
        ("GET", "/readyz", None, (200, 200, 200, 200, 200, 200)),
        ("GET", "/metrics", None, (200, 200, 200, 200, 200, 200)),
        ("GET", "/v1/methods", None, (401, 401, 200, 200, 200, 200)),
        ("GET", "/v1/repos", None, (401, 401, 200, 200, 200, 200)),
        ("GET", "/v1/repos/team/public", None, (401, 401, 200, 200, 200, 200)),
        ("GET", "/v1/repos/team/public/files/a.txt", None, (401, 401, 200, 200, 200, 200)),
        ("GET", "/v1/repos/team/hidden", None, (401, 401, 200, 404, 200, 200)),
        ("GET", "/v1/repos/team/hidden/files", None, (401, 401, 200, 404, 200, 200)),
        ("GET", "/v1/repos/team/hidden/commits", None, (401, 401, 200, 404, 200, 200)),
        ("GET", "/v1/repos/team/hidden/files/a.txt", None, (401, 401, 200, 404, 200, 200)),
        ("GET", "/v1/repos/team/none", None, (401, 401, 404, 404, 404, 404)),
        ("PUT", "/v1/repos/team/public/files/b.txt", b"b", (401, 401, 403, 403, 201, 200)),
        ("PUT", "/v1/repos/team/hidden/files/b.txt", b"b", (401, 401, 403, 403, 201, 200)),
        ("PUT", "/v1/repos/other/new/files/b.txt", b"b", (401, 401, 403, 201, 403, 200)),
        ("DELETE", "/v1/repos/team/public", None, (401, 401, 403, 403, 204, 404)),
        ("DELETE", "/v1/repos/team/hidden", None, (401, 401, 403, 404, 204, 404)),
        ("GET", "/v1/tokens", None, (401, 401, 403, 403, 403, 200)),
        ("GET", "/v1/jobs", None, (401, 401, 200, 200, 200, 200)),
        ("GET", "/v1/deltas", None, (401, 401, 200, 200, 200, 200)),
        ("GET", "/v1/compositions", None, (401, 401, 200, 200, 200, 200)),
        ("POST", "/v1/jobs/none/cancel", None, (401, 401, 403, 404, 404, 404)),
    ],
)
def test_each_caller_gets_its_answer(
    guarded: Guarded, method: str, path: str, body: bytes | None, statuses: tuple[int, ...]
) -> None:
    for who, status in zip(CALLERS, statuses, strict=True):
        answer = guarded.ask(who, method, path, content=body)
        assert answer.status_code == status, who
        assert ("www-authenticate" in answer.headers) == (status == 401)


def test_a_hidden_repo_looks_like_none(guarded: Guarded) -> None:
    hidden, none = (
        guarded.ask("other_writer", "GET", f"/v1/repos/team/{name}").json() for name in ("hidden", "nihdde")
    )
    assert hidden["detail"].replace("hidden", "X") == none["detail"].replace("nihdde", "X")
    listed = guarded.ask("other_writer", "GET", "/v1/repos").json()["items"]
    assert [repo["name"] for repo in listed] == ["team/public"]
    jobs = guarded.ask("other_writer", "GET", "/v1/jobs").json()["items"]
    assert {job["subject_id"].split("@")[0] for job in jobs} == {"team/public"}


def test_a_job_of_a_hidden_repo_looks_like_none(guarded: Guarded) -> None:
    jobs = guarded.ask("writer", "GET", "/v1/jobs", params={"repo": "team/hidden"}).json()["items"]
    path = jobs[0]["links"]["self"]
    assert guarded.ask("writer", "GET", path).status_code == 200
    for ending in ("", "/events"):
        assert guarded.ask("other_writer", "GET", path + ending).status_code == 404
    assert guarded.ask("other_writer", "POST", path + "/cancel").status_code == 404


def test_a_hidden_source_looks_like_none(guarded: Guarded) -> None:
    recipe = {"method": "linear", "ingredients": [{"source": "team/hidden"}]}
    refused = guarded.ask("other_writer", "POST", "/v1/plan", json={"recipe": recipe})
    assert refused.status_code == 404
    assert refused.json()["where"] == "recipe.ingredients[0].source"
    assert "team/hidden" not in refused.json()["expected"]


def test_a_revoked_token_opens_nothing(guarded: Guarded) -> None:
    made = guarded.ask("admin", "POST", "/v1/tokens", json={"name": "ci", "scopes": ["read"]})
    assert made.status_code == 201
    guarded.secrets["ci"] = made.json()["secret"]
    assert guarded.ask("ci", "GET", "/v1/repos").status_code == 200
    assert guarded.ask("admin", "DELETE", f"/v1/tokens/{made.json()['id']}").status_code == 204
    assert guarded.ask("ci", "GET", "/v1/repos").status_code == 401
    assert guarded.ask("admin", "DELETE", f"/v1/tokens/{made.json()['id']}").status_code == 404


def test_a_secret_is_shown_once(guarded: Guarded) -> None:
    secret = guarded.ask("admin", "POST", "/v1/tokens", json={"name": "ci", "scopes": ["read"]}).json()["secret"]
    assert secret not in guarded.ask("admin", "GET", "/v1/tokens").text
    assert all(secret.encode() not in path.read_bytes() for path in guarded.pot.data.rglob("stockpot.db*"))


def test_the_last_admin_token_stays(guarded: Guarded) -> None:
    tokens = guarded.ask("admin", "GET", "/v1/tokens").json()["items"]
    admin = next(token["id"] for token in tokens if "admin" in token["scopes"])
    assert guarded.ask("admin", "DELETE", f"/v1/tokens/{admin}").status_code == 409
    assert guarded.ask("admin", "GET", "/v1/tokens").status_code == 200


def test_an_admin_of_a_namespace_stays_in_it(guarded: Guarded) -> None:
    guarded.secrets["lead"] = guarded.pot.token("admin", namespaces=("team",))
    wish = {"name": "x", "scopes": ["write"], "namespaces": ["*"]}
    assert guarded.ask("lead", "POST", "/v1/tokens", json=wish).status_code == 403
    assert guarded.ask("lead", "POST", "/v1/tokens", json={**wish, "namespaces": ["team"]}).status_code == 201
    reach = {
        namespace
        for token in guarded.ask("lead", "GET", "/v1/tokens").json()["items"]
        for namespace in token["namespaces"]
    }
    assert reach == {"team"}
    everything = next(
        token for token in guarded.ask("admin", "GET", "/v1/tokens").json()["items"] if token["namespaces"] == ["*"]
    )
    assert guarded.ask("lead", "DELETE", f"/v1/tokens/{everything['id']}").status_code == 403


@pytest.mark.parametrize(
    ("wish", "where"),
    [
        ({"name": "", "scopes": ["read"]}, "name"),
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "x", "scopes": ["reed"]}, "scopes[0]"),
        ({"name": "x", "scopes": ["read"], "namespaces": ["../a"]}, "namespaces[0]"),
        ({"name": "x", "scopes": ["read"], "namespace": ["a"]}, "namespace"),
    ],
)
def test_a_bad_token_wish_names_the_field(client: httpx.Client, wish: object, where: str) -> None:
    refused = client.post("/v1/tokens", json=wish)
    assert (refused.status_code, refused.json()["where"]) == (422, where)
    assert client.get("/v1/tokens").json()["items"] == []


def test_without_tokens_any_authorization_is_fine_and_the_first_token_closes_the_door(client: httpx.Client) -> None:
    assert client.get("/v1/repos", headers={"Authorization": "Bearer hf_of_another_service"}).status_code == 200
    assert client.post("/v1/tokens", json={"name": "first", "scopes": ["admin"]}).status_code == 201
    assert client.get("/v1/repos").status_code == 401


@pytest.mark.parametrize("value", ["", "Bearer", "Basic dXNlcjpwdw==", "Bearer a b", "Bearer \xff"])
def test_a_header_that_is_no_token_is_a_401(pot: Pot, value: str) -> None:
    pot.token("admin")
    with pot.client() as client:
        assert client.get("/v1/repos", headers={"Authorization": value.encode("latin-1")}).status_code == 401


def test_a_page_of_another_site_cannot_use_the_open_service(client: httpx.Client) -> None:
    path = "/v1/repos/team/math/files/a.txt"
    assert client.put(path, content=b"x", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.put(path, content=b"x", headers={"Origin": "http://localhost:8080"}).status_code == 201


def test_a_service_without_tokens_does_not_start_beyond_loopback(tmp_path: Path, queue_url: str) -> None:
    with pytest.raises(InputError, match="STOCKPOT_HOST"):
        create_app(Settings(data=tmp_path, host="0.0.0.0", redis_url=queue_url))
