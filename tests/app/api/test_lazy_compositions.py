"""Compositions that wait until somebody wants their files."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx

from app.jobs.reconcile import Reconciler
from app.store.compositions import FINALISER, SHARD
from tests.app.api.conftest import Pot

Recipe = dict[str, Any]
BUILT = {"config.json": b"{}", "model.safetensors": b"weights"}
AT_ONCE = timedelta(seconds=-1)


def ask(client: httpx.Client, recipe: Recipe, name: str = "soups/mix", **fields: object) -> httpx.Response:
    return client.post("/v1/compositions", json={"name": name, "recipe": recipe, "lazy": True, **fields})


def states(pot: Pot, job_id: str) -> set[str]:
    job = pot.inside.store.get_job(job_id)
    assert job is not None
    return {job.state, *(shard.state for shard in pot.inside.store.shards_of(job_id))}


def builds_due(pot: Pot) -> list[str]:
    return [job.id for job in pot.inside.store.due_jobs() if job.kind in (SHARD, FINALISER)]


def test_a_lazy_composition_is_planned_and_in_no_queue(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    asked = ask(client, recipe)
    assert (asked.status_code, asked.json()["state"]) == (202, "planned")
    assert states(pot, asked.json()["job"]) == {"planned"}
    assert builds_due(pot) == []
    again = ask(client, recipe)
    assert (again.status_code, again.json()) == (202, asked.json())
    assert [item["name"] for item in client.get("/v1/compositions?state=planned").json()["items"]] == ["soups/mix"]
    assert client.get(f"/v1/jobs/{asked.json()['job']}").json()["state"] == "planned"


def test_its_inputs_and_side_files_are_kept(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    ask(client, recipe)
    store = pot.inside.store
    before = store.count_blobs()
    for name in ("one", "two"):
        client.delete(f"/v1/repos/team/{name}").raise_for_status()
    assert store.unneeded_blobs(AT_ONCE) == []
    client.post("/v1/compositions/soups/mix/cancel").raise_for_status()
    assert len(store.unneeded_blobs(AT_ONCE)) == before[0]


def test_many_at_once_start_one_build(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    job = ask(client, recipe).json()["job"]
    found = pot.inside.store.get_composition("soups/mix")
    assert found is not None
    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(lambda _: pot.inside.jobs.start_composition(found), range(8)))
    assert sorted(started) == [False] * 7 + [True]
    assert states(pot, job) == {"queued"}
    assert [event.kind for event in pot.inside.store.events_since(job)] == ["planned", "queued"]


def test_it_is_built_when_it_is_asked_for_in_earnest(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    job = ask(client, recipe).json()["job"]
    eager = client.post("/v1/compositions", json={"name": "soups/other", "recipe": recipe})
    assert (eager.status_code, eager.json()["state"], eager.json()["name"]) == (202, "queued", "soups/other")
    assert eager.json()["job"] == job
    assert ask(client, recipe).json()["state"] == "queued"


def test_it_is_built_on_demand(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    asked = ask(client, recipe).json()
    for _ in range(2):
        built = client.post(f"{asked['location']}/build")
        assert (built.status_code, built.json()["state"]) == (202, "queued")
    commit = pot.build(asked["id"], BUILT)
    assert commit == asked["digest"][:40]
    done = client.post("/v1/compositions/soups/mix/build").json()
    assert (done["state"], done["commit"]) == ("done", commit)
    assert ask(client, recipe).status_code == 200


def test_a_cancelled_one_can_be_asked_for_again(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    first = ask(client, recipe).json()
    assert client.post(f"{first['location']}/cancel").json()["state"] == "cancelled"
    assert states(pot, first["job"]) == {"cancelled"}
    assert client.post(f"{first['location']}/build").json()["state"] == "cancelled"
    again = ask(client, recipe).json()
    assert (again["state"], again["id"] != first["id"]) == ("planned", True)


def test_a_deleted_one_is_gone(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    asked = ask(client, recipe).json()
    client.delete("/v1/repos/soups/mix").raise_for_status()
    assert states(pot, asked["job"]) == {"cancelled"}
    assert client.post(f"{asked['location']}/build").status_code == 404


def test_only_who_may_write_there_starts_it(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    ask(client, recipe)
    reader = pot.token("read")
    stranger = pot.token("write", namespaces=("team",))
    for secret, status in ((reader, 403), (stranger, 403)):
        with pot.client(secret) as caller:
            assert caller.post("/v1/compositions/soups/mix/build").status_code == status
    assert builds_due(pot) == []


def test_what_is_not_known_before_it_is_built_cannot_be_lazy(client: httpx.Client, recipe: Recipe) -> None:
    wish = {**recipe, "base": "team/one", "method": {"name": "task_arithmetic"}, "output": {"kind": "patch"}}
    refused = ask(client, {**wish, "ingredients": [{"source": "team/two"}]})
    assert (refused.status_code, refused.json()["where"]) == (422, "lazy")
    assert refused.json()["found"] == "output kind patch"


def test_the_reconciler_leaves_it_alone(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    ask(client, recipe)
    reconciler = Reconciler(pot.inside.settings, pot.inside.store, pot.inside.redis)
    assert [reconciler.sweep() for _ in range(3)] == [[], [], []]
    reconciler.restore()
    assert builds_due(pot) == []
