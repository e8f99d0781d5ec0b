"""Asking for compositions: planned first, built once, found again."""

from typing import Any

import httpx
import pytest

from app.memory import PROCESS_BYTES
from tests.app.api.conftest import Pot, running

Recipe = dict[str, Any]
BUILT = {"config.json": b"{}", "model.safetensors": b"weights"}


def ask(client: httpx.Client, recipe: Recipe, name: str = "soups/mix") -> httpx.Response:
    return client.post("/v1/compositions", json={"name": name, "recipe": recipe})


def test_a_recipe_is_planned_without_building(client: httpx.Client, recipe: Recipe) -> None:
    plan = client.post("/v1/plan", json={"recipe": recipe})
    assert plan.status_code == 200
    assert len(plan.json()["digest"]) == 64
    assert plan.json()["total_bytes"] > 0
    assert {tensor["name"] for tensor in plan.json()["tensors"]} == {"layer.weight", "layer.bias"}
    assert client.get("/v1/compositions").json()["items"] == []


def test_a_composition_is_queued_with_its_links(client: httpx.Client, recipe: Recipe) -> None:
    asked = ask(client, recipe)
    assert asked.status_code == 202
    body = asked.json()
    assert asked.headers["location"] == body["location"] == f"/v1/compositions/{body['id']}"
    assert body["state"] == "queued"
    assert client.get(body["links"]["self"]).json() == body
    assert client.get("/v1/compositions/soups/mix").json() == body
    job = client.get(f"/v1/jobs/{body['job']}").json()
    assert (job["kind"], job["state"], job["done"]) == ("composition", "queued", 0)
    assert client.get("/v1/repos/soups/mix").json()["kind"] == "composition"


def test_its_recipe_is_pinned_to_commits(client: httpx.Client, recipe: Recipe) -> None:
    sources = [ingredient["source"] for ingredient in ask(client, recipe).json()["recipe"]["ingredients"]]
    heads = [client.get(f"/v1/repos/team/{name}").json()["head"] for name in ("one", "two")]
    assert sources == [f"team/one@{heads[0]}", f"team/two@{heads[1]}"]


def test_yaml_asks_for_the_same_as_json(client: httpx.Client, recipe: Recipe) -> None:
    ingredients = "[{source: team/one, weight: 0.5}, {source: team/two, weight: 0.5}]"
    text = f"recipe:\n  method: linear\n  ingredients: {ingredients}\n"
    by_yaml = client.post("/v1/plan", content=text, headers={"Content-Type": "application/yaml"})
    assert by_yaml.json()["digest"] == client.post("/v1/plan", json={"recipe": recipe}).json()["digest"]


def test_a_recipe_of_mergekit_s_means_the_same(client: httpx.Client, recipe: Recipe) -> None:
    models = [{"model": f"team/{name}", "parameters": {"weight": 0.5}} for name in ("one", "two")]
    wish = {"merge_method": "linear", "models": models}
    theirs = client.post("/v1/plan", json={"recipe": wish})
    assert theirs.json()["tensors"] == client.post("/v1/plan", json={"recipe": recipe}).json()["tensors"]
    refused = client.post("/v1/plan", json={"recipe": wish | {"dtpye": "bfloat16"}})
    assert refused.status_code == 422
    assert "dtpye" in refused.text


MERGEKIT = """\
name: half
merge_method: linear
models:
- {model: team/one, parameters: &half {weight: 0.5}}
- {model: team/two, parameters: {<<: *half}}
---
merge_method: linear
models:
- {model: half, parameters: {weight: 1.0}}
"""


def test_a_mergekit_file_is_posted_as_it_is(client: httpx.Client, recipe: Recipe) -> None:
    kind = {"Content-Type": "application/yaml"}
    planned = client.post("/v1/plan", content=MERGEKIT, headers=kind)
    expected = client.post("/v1/plan", json={"recipe": recipe})
    places = [[(tensor["name"], tensor["shape"]) for tensor in plan.json()["tensors"]] for plan in (planned, expected)]
    assert places[0] == places[1]
    made = client.post("/v1/compositions", params={"name": "soups/mix"}, content=MERGEKIT, headers=kind)
    assert made.status_code == 202
    assert made.json()["name"] == "soups/mix"
    nameless = client.post("/v1/compositions", content=MERGEKIT, headers=kind)
    assert nameless.status_code == 422
    assert "name" in nameless.text
    two = client.post("/v1/plan", content="recipe: {}\n---\nrecipe: {}\n", headers=kind)
    assert "a body is one document" in two.text


def test_asking_again_while_it_is_under_way_gives_the_same_job(client: httpx.Client, recipe: Recipe) -> None:
    first, second, other = ask(client, recipe), ask(client, recipe), ask(client, recipe, "soups/again")
    assert [answer.status_code for answer in (first, second, other)] == [202, 202, 202]
    assert first.json()["job"] == second.json()["job"] == other.json()["job"]
    assert len(client.get("/v1/compositions").json()["items"]) == 1


def test_asking_again_when_it_is_done_builds_nothing(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    body = ask(client, recipe).json()
    commit = pot.build(body["id"], BUILT)
    again = ask(client, recipe)
    assert again.status_code == 200
    assert (again.json()["id"], again.json()["state"], again.json()["commit"]) == (body["id"], "done", commit)
    assert commit == body["digest"][:40]
    jobs = client.get("/v1/jobs", params={"kind": "composition"}).json()["items"]
    assert [job["state"] for job in jobs] == ["done"]


def test_the_files_of_a_composition_are_served(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    body = ask(client, recipe).json()
    files = body["links"]["files"]
    assert client.get(files).status_code == 409
    assert client.get(f"{files}/config.json").status_code == 409
    pot.build(body["id"], BUILT)
    assert [file["path"] for file in client.get(files).json()["files"]] == sorted(BUILT)
    for base in (files, "/v1/compositions/soups/mix/files", "/v1/repos/soups/mix/files"):
        got = client.get(f"{base}/model.safetensors", headers={"Range": "bytes=0-2"})
        assert (got.status_code, got.content) == (206, b"wei")
    assert client.head(f"{files}/model.safetensors").headers["content-length"] == "7"


def test_what_is_built_gets_another_name_at_once(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    pot.build(ask(client, recipe).json()["id"], BUILT)
    other = ask(client, recipe, "soups/other")
    assert (other.status_code, other.json()["name"]) == (200, "soups/other")
    assert client.get("/v1/repos/soups/other/files/config.json").content == b"{}"
    assert client.get("/v1/compositions/soups/other").json()["state"] == "done"
    assert client.get("/v1/compositions/soups/other/files/config.json").content == b"{}"
    assert len(client.get("/v1/jobs", params={"kind": "composition"}).json()["items"]) == 1


def test_another_recipe_under_the_name_becomes_its_next_commit(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    pot.build(ask(client, recipe).json()["id"], BUILT)
    other = [{"source": "team/one", "weight": 0.1}, {"source": "team/two", "weight": 0.9}]
    second = ask(client, {**recipe, "ingredients": other})
    assert second.status_code == 202
    pot.build(second.json()["id"], {"config.json": b"{ }"})
    assert [file["path"] for file in client.get("/v1/repos/soups/mix/files").json()["files"]] == ["config.json"]
    assert len(client.get("/v1/repos/soups/mix/commits").json()["items"]) == 2
    assert ask(client, recipe).status_code == 200
    assert client.get("/v1/repos/soups/mix/files/model.safetensors").content == b"weights"


def test_a_name_that_holds_something_else_is_a_conflict(client: httpx.Client, recipe: Recipe) -> None:
    refused = ask(client, recipe, "team/one")
    assert (refused.status_code, refused.json()["where"]) == (409, "name")
    assert client.get("/v1/compositions").json()["items"] == []


def test_the_files_of_a_composition_cannot_be_overwritten(client: httpx.Client, recipe: Recipe) -> None:
    ask(client, recipe)
    assert client.put("/v1/repos/soups/mix/files/config.json", content=b"x").status_code == 409


def test_a_cancelled_composition_can_be_asked_for_again(client: httpx.Client, recipe: Recipe) -> None:
    body = ask(client, recipe).json()
    cancelled = client.post(body["links"]["cancel"])
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    assert client.post(body["links"]["cancel"]).status_code == 202
    again = ask(client, recipe)
    assert again.status_code == 202
    assert again.json()["id"] != body["id"]


def test_a_failed_composition_says_why_and_can_be_asked_for_again(
    pot: Pot, client: httpx.Client, recipe: Recipe
) -> None:
    body = ask(client, recipe).json()
    shard = pot.inside.store.shards_of(body["job"])[0]
    lease = pot.inside.store.claim(shard.id)
    assert lease is not None
    pot.inside.store.fail(shard.id, lease, {"type": "FileError", "message": "broken"})
    failed = client.get(body["links"]["self"]).json()
    assert (failed["state"], failed["error"]["message"]) == ("failed", "broken")
    assert ask(client, recipe).status_code == 202


@pytest.mark.parametrize(
    ("change", "status", "where"),
    [
        ({"method": {"name": "linear", "normalise": True}}, 422, "recipe.method.normalise"),
        ({"ingredients": []}, 422, "recipe.ingredients"),
        ({"scael": 1.0}, 422, "recipe.scael"),
        ({"base": "team/none@main"}, 404, "recipe.base"),
        ({"ingredients": [{"source": "team/one@nope"}]}, 404, "recipe.ingredients[0].source"),
        ({"ingredients": [{"source": "team/one@../x"}]}, 422, "recipe.ingredients[0].source"),
        ({"output": {"max_shard_bytes": 0}}, 422, "recipe.output.max_shard_bytes"),
    ],
)
def test_a_bad_recipe_is_told_before_anything_is_queued(
    client: httpx.Client, recipe: Recipe, change: Recipe, status: int, where: str
) -> None:
    refused = ask(client, {**recipe, **change})
    assert (refused.status_code, refused.json()["where"]) == (status, where)
    assert client.get("/v1/compositions").json()["items"] == []
    assert client.get("/v1/repos/soups/mix").status_code == 404


@pytest.mark.parametrize("name", ["mix", "a/b/c", "../mix", "soups/", "/mix", "soups/mix.git", ""])
def test_a_bad_name_is_refused(client: httpx.Client, recipe: Recipe, name: str) -> None:
    refused = ask(client, recipe, name)
    assert (refused.status_code, refused.json()["where"]) == (422, "name")


def test_a_composition_of_private_repos_is_private(pot: Pot, recipe: Recipe) -> None:
    writer, other = pot.token("write", namespaces=("team", "soups")), pot.token("read", namespaces=("other",))
    with pot.client(writer) as client, pot.client(other) as stranger:
        client.put("/v1/repos/team/secret", json={"private": True}).raise_for_status()
        content = client.get("/v1/repos/team/one/files/model.safetensors").content
        client.put("/v1/repos/team/secret/files/model.safetensors", content=content).raise_for_status()
        body = ask(client, {**recipe, "ingredients": [{"source": "team/secret", "weight": 1.0}]}).json()
        assert body["private"]
        for path in (*body["links"].values(), "/v1/compositions/soups/mix", "/v1/repos/soups/mix"):
            if not path.endswith("cancel"):
                assert stranger.get(path).status_code == 404, path
        assert stranger.get("/v1/compositions").json()["items"] == []


def test_asking_needs_write_on_the_name_and_read_on_the_sources(pot: Pot, recipe: Recipe) -> None:
    for scope, namespace, status in (("read", "soups", 403), ("write", "team", 403), ("write", "soups", 202)):
        with pot.client(pot.token(scope, namespaces=(namespace,))) as client:
            assert ask(client, recipe).status_code == status


def test_methods_say_what_they_take(client: httpx.Client) -> None:
    methods = {method["name"]: method for method in client.get("/v1/methods").json()}
    assert {"linear", "slerp", "task_arithmetic", "ties", "selma"} <= methods.keys()
    assert "density" in methods["ties"]["parameters"]


@pytest.mark.parametrize("route", ["/v1/plan", "/v1/compositions"])
def test_what_does_not_fit_into_memory_is_refused_before_it_is_queued(pot: Pot, recipe: Recipe, route: str) -> None:
    less = pot.inside.settings.model_copy(update={"memory_bytes": PROCESS_BYTES})
    body = {"recipe": recipe} | ({"name": "soups/mix"} if route == "/v1/compositions" else {})
    with running(less) as small, small.client() as client:
        refused = client.post(route, json=body)
        assert client.get("/v1/jobs", params={"kind": "composition"}).json()["items"] == []
    problem = refused.json()
    assert (refused.status_code, problem["type"]) == (507, "/problems/capacity-error")
    assert problem["where"] == "tensor 'layer.bias'"
    assert problem["detail"].startswith("tensor 'layer.bias': linear needs more memory")
    assert int(str(problem["found"]).split()[0]) > PROCESS_BYTES


def test_a_second_name_for_what_is_under_way_becomes_a_repo_when_it_is_built(
    pot: Pot, client: httpx.Client, recipe: Recipe
) -> None:
    first, second = ask(client, recipe), ask(client, recipe, "soups/other")
    assert (second.status_code, second.json()["name"], second.json()["state"]) == (202, "soups/other", "queued")
    assert second.json()["id"] == first.json()["id"]
    assert client.get("/v1/compositions/soups/other").json()["name"] == "soups/other"
    pot.build(first.json()["id"], BUILT)
    for name in ("soups/mix", "soups/other"):
        shown = client.get(f"/v1/compositions/{name}").json()
        assert (shown["state"], shown["name"]) == ("done", name)
        assert client.get(f"/v1/repos/{name}/files/model.safetensors").content == b"weights"
        assert client.get(f"/v1/compositions/{name}/files/config.json").content == b"{}"
    assert len(client.get("/v1/jobs", params={"kind": "composition"}).json()["items"]) == 1


def test_deleting_the_first_name_leaves_the_build_to_the_second(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    first, _ = ask(client, recipe), ask(client, recipe, "soups/other")
    client.delete("/v1/repos/soups/mix").raise_for_status()
    assert client.get(f"/v1/compositions/{first.json()['id']}").json()["name"] == "soups/other"
    pot.build(first.json()["id"], BUILT)
    assert client.get("/v1/repos/soups/other/files/config.json").content == b"{}"
    assert client.get("/v1/repos/soups/mix").status_code == 404


def test_deleting_the_second_name_leaves_the_first_alone(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    first, _ = ask(client, recipe), ask(client, recipe, "soups/other")
    client.delete("/v1/repos/soups/other").raise_for_status()
    pot.build(first.json()["id"], BUILT)
    assert client.get("/v1/repos/soups/mix/files/config.json").content == b"{}"
    assert client.get("/v1/repos/soups/other").status_code == 404
    assert client.get("/v1/compositions/soups/other").status_code == 404


def test_a_name_that_holds_something_else_is_no_second_name_either(client: httpx.Client, recipe: Recipe) -> None:
    ask(client, recipe)
    assert ask(client, recipe, "team/one").status_code == 409
