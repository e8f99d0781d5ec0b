"""Gated repos over HTTP: seen by all, read by their namespace."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.app.api.conftest import Pot

FILE = "/v1/repos/team/one/files/model.safetensors"


@pytest.fixture
def gated(client: httpx.Client, pot: Pot, recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe over `team/one`, which is gated, and `team/two`."""
    pot.inside.store.set_gate(pot.inside.store.require_repo("team/one"), "manual")
    return recipe


@pytest.fixture
def stranger(pot: Pot, gated: dict[str, Any]) -> Iterator[httpx.Client]:
    with pot.client(pot.token("write", namespaces=("other",))) as client:
        yield client


@pytest.fixture
def member(pot: Pot, gated: dict[str, Any]) -> Iterator[httpx.Client]:
    with pot.client(pot.token("write", namespaces=("team", "soups"))) as client:
        yield client


def test_others_see_that_it_is_there_and_read_no_file(stranger: httpx.Client, member: httpx.Client) -> None:
    shown, inside = stranger.get("/v1/repos/team/one").json(), member.get("/v1/repos/team/one").json()
    assert (shown["gated"], shown["files"], shown["commit"]) == ("manual", [], inside["commit"])
    assert [repo["name"] for repo in stranger.get("/v1/repos").json()["items"]] == ["team/one", "team/two"]
    for path in (FILE, f"{FILE}?revision={shown['commit']}", "/v1/repos/team/one/files"):
        refused = stranger.get(path)
        assert (refused.status_code, refused.json()["found"]) == (403, "team/one")
        assert member.get(path).status_code == 200
    digest = inside["files"][0]["sha256"]
    offer = {"files": [{"path": "a", "sha256": digest, "size": inside["files"][0]["size"]}]}
    assert len(stranger.post("/v1/repos/other/x/missing", json=offer).json()["missing"]) == 1
    wish = {"files": [{"path": "a", "sha256": digest}]}
    assert stranger.post("/v1/repos/other/x/commits", json=wish).status_code == 422


def test_others_compose_nothing_of_it(
    stranger: httpx.Client, member: httpx.Client, pot: Pot, gated: dict[str, Any]
) -> None:
    refused = stranger.post("/v1/plan", json={"recipe": gated})
    assert (refused.status_code, refused.json()["where"]) == (403, "recipe.ingredients[0].source")
    made = member.post("/v1/compositions", json={"name": "soups/mix", "recipe": gated})
    assert (made.status_code, made.json()["private"]) == (202, True)
    pot.build(made.json()["id"], {"config.json": b"{}"})
    assert stranger.get("/v1/compositions/soups/mix").status_code == 404
    assert member.get("/v1/compositions/soups/mix/files/config.json").content == b"{}"


def test_a_gated_composition_is_shown_without_its_files(
    client: httpx.Client, stranger: httpx.Client, member: httpx.Client, pot: Pot, gated: dict[str, Any]
) -> None:
    store = pot.inside.store
    store.set_gate(store.require_repo("team/one"), "")
    made = member.post("/v1/compositions", json={"name": "soups/mix", "recipe": gated}).json()
    pot.build(made["id"], {"config.json": b"{}"})
    store.set_gate(store.require_repo("soups/mix"), "auto")
    assert stranger.get("/v1/compositions/soups/mix").json()["state"] == "done"
    for path in ("files", "files/config.json"):
        assert stranger.get(f"/v1/compositions/soups/mix/{path}").status_code == 403
        assert member.get(f"/v1/compositions/soups/mix/{path}").status_code == 200
