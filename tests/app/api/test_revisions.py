"""Branches and histories over HTTP."""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import pytest

from tests.app.api.conftest import Pot

Recipe = dict[str, Any]
REPO = "/v1/repos/team/math"


@pytest.fixture
def client(pot: Pot) -> Iterator[httpx.Client]:
    with pot.client() as client:
        yield client


def commit(client: httpx.Client, content: bytes, **wish: object) -> httpx.Response:
    digest = sha256(content).hexdigest()
    client.put(f"{REPO}/blobs/{digest}", content=content).raise_for_status()
    files = [{"path": "a.txt", "sha256": digest}]
    return client.post(f"{REPO}/commits", json={"message": content.decode(), "files": files, **wish})


def test_a_commit_can_go_to_a_branch(client: httpx.Client, pot: Pot) -> None:
    first = commit(client, b"first").json()["id"]
    repo = pot.inside.store.require_repo("team/math")
    pot.inside.store.create_branch(repo, "feature/x")
    made = commit(client, b"second", branch="feature/x", parent=first[:7])
    assert made.status_code == 201
    assert commit(client, b"second", branch="feature/x").status_code == 200
    assert client.get(REPO).json()["head"] == first
    assert client.get(f"{REPO}/files/a.txt", params={"revision": "feature/x"}).content == b"second"
    assert client.get(f"{REPO}/files/a.txt", params={"revision": "refs/heads/feature/x"}).content == b"second"
    assert client.get(f"{REPO}/files/a.txt").content == b"first"
    stale = commit(client, b"third", branch="feature/x", parent=first)
    assert (stale.status_code, stale.json()["expected"]) == (409, made.json()["id"])


def test_a_branch_that_is_not_there_is_not_made_and_neither_is_a_repo(client: httpx.Client, pot: Pot) -> None:
    assert commit(client, b"first", branch="dev").status_code == 404
    assert pot.inside.store.get_repo("team", "math") is None
    commit(client, b"first").raise_for_status()
    answer = commit(client, b"second", branch="man")
    assert (answer.status_code, answer.json()["where"]) == (404, "branch")
    assert commit(client, b"second", branch="a..b").status_code == 422


def test_refs_are_shown(client: httpx.Client, pot: Pot) -> None:
    head = commit(client, b"first").json()["id"]
    repo = pot.inside.store.require_repo("team/math")
    pot.inside.store.create_branch(repo, "dev")
    pot.inside.store.create_tag(repo, "v1", message="The first")
    pot.inside.store.open_pull_request(repo, {}, "Look", "me")
    refs = client.get(client.get(REPO).json()["links"]["refs"]).json()
    assert [(ref["name"], ref["commit"]) for ref in refs["branches"]] == [("main", head), ("dev", head)]
    assert [(ref["ref"], ref["message"]) for ref in refs["tags"]] == [("refs/tags/v1", "The first")]
    assert [(ref["ref"], ref["message"]) for ref in refs["pull_requests"]] == [("refs/pr/1", "Look")]
    secret = pot.inside.store.create_repo("team", "secret", private=True).full_name
    with pot.client(pot.token("read", namespaces=("other",))) as stranger:
        assert stranger.get(f"/v1/repos/{secret}/refs").status_code == 404


def test_a_history_is_read_page_by_page(client: httpx.Client) -> None:
    made = [commit(client, str(number).encode()).json()["id"] for number in range(5)]
    seen, cursor = [], None
    while True:
        page = client.get(f"{REPO}/commits", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        seen += [item["id"] for item in page["items"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert seen == made[::-1]


def test_a_recipe_may_name_branches_and_tags_and_is_pinned(client: httpx.Client, pot: Pot, recipe: Recipe) -> None:
    store = pot.inside.store
    one, two = store.require_repo("team/one"), store.require_repo("team/two")
    store.create_branch(one, "feature/x")
    store.create_tag(two, "v1.0")
    made = client.put(f"/v1/repos/{one.full_name}/files/README.md", content=b"on main").json()["commit"]
    sources = ["team/one@feature/x", "team/two@v1.0"]
    ingredients = [{"source": source, "weight": 0.5} for source in sources]
    asked = client.post("/v1/compositions", json={"name": "soups/mix", "recipe": recipe | {"ingredients": ingredients}})
    pinned = [ingredient["source"] for ingredient in asked.json()["recipe"]["ingredients"]]
    assert pinned == [f"team/one@{one.head}", f"team/two@{two.head}"]
    assert made != one.head
    missing = recipe | {"ingredients": [{"source": "team/one@feature/y", "weight": 1.0}]}
    refused = client.post("/v1/plan", json={"recipe": missing})
    assert (refused.status_code, refused.json()["where"]) == (404, "recipe.ingredients[0].source")
    assert "'feature/x'" in refused.json()["expected"]
