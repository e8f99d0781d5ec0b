"""Health, metrics, request ids, and what the log and a 500 give away."""

import json
from pathlib import Path

import httpx
import pytest
from redis import Redis
from sqlalchemy import text

from tests.app.api.conftest import Pot, running, settings_for


def test_every_answer_has_a_request_id_and_keeps_a_sane_one(client: httpx.Client) -> None:
    assert len(client.get("/healthz").headers["x-request-id"]) == 32
    assert client.get("/v1/none", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    for odd in ("a b", "x" * 65, "<script>"):
        assert client.get("/healthz", headers={"X-Request-ID": odd}).headers["x-request-id"] != odd


def test_ready_when_all_parts_answer(client: httpx.Client) -> None:
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json()["parts"] == {"database": "ok", "queue": "ok", "blobs": "ok"}


def test_not_ready_while_the_queue_is_away(tmp_path: Path) -> None:
    with running(settings_for(tmp_path, f"unix://{tmp_path}/none.sock")) as pot, pot.client() as client:
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["found"].startswith("queue: ")
        assert "database" not in answer.json()["found"]
        assert answer.headers["retry-after"] == "5"
        assert client.get("/healthz").status_code == 200


def test_metrics_count_requests_by_route_template(client: httpx.Client) -> None:
    for name in ("one", "two"):
        client.put(f"/v1/repos/team/{name}/files/a.txt", content=b"abc")
    client.get("/nowhere")
    figures = client.get("/metrics").text
    template = "/v1/repos/{namespace}/{name}/files/{path:path}"
    assert f'stockpot_http_requests_total{{method="PUT",route="{template}",status="201"}} 2.0' in figures
    assert 'route="unmatched",status="404"' in figures
    assert f'stockpot_http_response_start_seconds_count{{method="PUT",route="{template}"}} 2.0' in figures
    assert 'stockpot_jobs{state="queued"} 2.0' in figures
    assert "stockpot_blobs_bytes 3.0" in figures
    assert "team" not in figures


def test_what_breaks_inside_is_a_500_without_internals(pot: Pot, capfd: pytest.CaptureFixture[str]) -> None:
    secret = pot.token("admin")
    with pot.inside.store._database.write() as connection:
        connection.execute(text("DROP TABLE deltas"))
    with pot.inside.store._database.write() as connection:
        connection.execute(text("CREATE TABLE deltas (id TEXT)"))
    with pot.client(secret) as client:
        answer = client.get("/v1/deltas")
    assert answer.status_code in (500, 503)
    assert "deltas" not in answer.text.replace("/v1/deltas", "")
    assert "Traceback" not in answer.text
    log = capfd.readouterr().err
    assert answer.headers["x-request-id"] in log
    assert secret not in log
    assert "authorization" not in log.lower()


def test_a_request_is_one_line_of_json_in_the_log(pot: Pot, capfd: pytest.CaptureFixture[str]) -> None:
    with pot.client("hf_secret_of_a_person") as client:
        client.get("/v1/methods", headers={"X-Request-ID": "look-here"}, params={"key": "value"})
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines() if "look-here" in line]
    assert len(lines) == 1
    assert (lines[0]["method"], lines[0]["path"], lines[0]["status"]) == ("GET", "/v1/methods", 200)
    assert "hf_secret" not in json.dumps(lines)


def test_publishing_works_while_the_queue_is_away(tmp_path: Path) -> None:
    """SQL is the record: the ingest job waits there."""
    with running(settings_for(tmp_path, f"unix://{tmp_path}/none.sock")) as pot, pot.client() as client:
        assert client.put("/v1/repos/team/math/files/a.txt", content=b"abc").status_code == 201
        assert [job["state"] for job in client.get("/v1/jobs").json()["items"]] == ["queued"]


def test_the_queue_holds_no_secret(pot: Pot, queue_url: str) -> None:
    with pot.client(pot.token("admin")) as client:
        client.put("/v1/repos/team/math/files/a.txt", content=b"abc").raise_for_status()
    redis = Redis.from_url(queue_url)
    dump = b"".join(redis.dump(key) or b"" for key in redis.keys("*"))
    redis.close()
    assert b"pot_" not in dump
