"""Following a job by server-sent events."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.app.api.conftest import Pot
from tests.app.api.test_compositions import BUILT, ask

Recipe = dict[str, Any]


def events(client: httpx.Client, path: str, last: str | None = None) -> Iterator[dict[str, str]]:
    """Events as a browser would read them, keep-alive comments left out."""
    headers = {} if last is None else {"Last-Event-ID": last}
    with client.stream("GET", path, headers=headers) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        event: dict[str, str] = {}
        for line in response.iter_lines():
            if line and not line.startswith(":"):
                key, _, value = line.partition(": ")
                event[key] = value
            elif event:
                yield event
                event = {}


def test_a_job_is_followed_until_it_is_done(pot: Pot, client: httpx.Client, recipe: Recipe) -> None:
    body = ask(client, recipe).json()
    stream = events(client, body["links"]["events"])
    assert next(stream)["event"] == "queued"
    worker = threading.Thread(target=pot.build, args=(body["id"], BUILT))
    worker.start()
    kinds = [event["event"] for event in stream]
    worker.join()
    assert kinds[0] == "running"
    assert kinds[-1] == "done"


def test_a_client_that_reconnects_misses_nothing_and_gets_nothing_twice(
    pot: Pot, client: httpx.Client, recipe: Recipe
) -> None:
    body = ask(client, recipe).json()
    path = body["links"]["events"]
    stream = events(client, path)
    seen = [next(stream)]
    stream.close()
    pot.build(body["id"], BUILT)
    rest = list(events(client, path, seen[-1]["id"]))
    whole = list(events(client, path))
    assert seen + rest == whole
    assert list(events(client, path, whole[-1]["id"])) == []
    assert list(events(client, f"/v1/jobs/{body['job']}/events")) == whole


def test_cancelling_ends_the_stream(client: httpx.Client, recipe: Recipe) -> None:
    body = ask(client, recipe).json()
    stream = events(client, body["links"]["events"])
    next(stream)
    client.post(body["links"]["cancel"])
    assert [event["event"] for event in stream] == ["cancelled"]


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 40])
def test_a_made_up_last_event_is_refused(client: httpx.Client, recipe: Recipe, last: str) -> None:
    body = ask(client, recipe).json()
    refused = client.get(body["links"]["events"], headers={"Last-Event-ID": last})
    assert (refused.status_code, refused.json()["where"]) == (422, "header Last-Event-ID")


def test_no_such_job_is_a_404_and_no_stream(client: httpx.Client) -> None:
    for path in ("/v1/jobs/none/events", "/v1/compositions/team/none/events", f"/v1/compositions/{'0' * 32}/events"):
        assert client.get(path).json()["type"] == "/problems/not-found-error"
