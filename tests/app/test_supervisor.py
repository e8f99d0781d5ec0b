import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
from safetensors.numpy import save

from app.jobs.valkey import Valkey
from tests.app.object_store import bucket, object_store
from tests.app.postgres import postgres
from tests.app.service import START, Service, is_alive, wait

RECIPE = {
    "base": "org/base",
    "method": "task_arithmetic",
    "ingredients": [{"source": "team/a"}],
    "output": {"max_shard_bytes": 1 << 16},
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path / "data")
    yield service
    if service.process is not None and service.process.poll() is None:
        service.kill()


def publish(client: httpx.Client, name: str, seed: int) -> None:
    draw = np.random.default_rng(seed)
    tensors = {f"layer.{i}.weight": draw.standard_normal(1 << 14, dtype=np.float32) for i in range(3)}
    files = {"model.safetensors": save(tensors, {"format": "pt"}), "config.json": b'{"model_type": "bert"}'}
    for path, content in files.items():
        client.put(f"/v1/repos/{name}/files/{path}", content=content).raise_for_status()


def compose(client: httpx.Client, name: str, scale: float) -> str:
    answer = client.post("/v1/compositions", json={"name": name, "recipe": RECIPE | {"scale": scale}})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def state(client: httpx.Client, composition: str) -> str:
    return str(client.get(f"/v1/compositions/{composition}").raise_for_status().json()["state"])


def wait_built(client: httpx.Client, *compositions: str) -> None:
    for composition in compositions:
        wait(lambda composition=composition: state(client, composition) not in ("queued", "running"), 60)
        assert state(client, composition) == "done"


def freeze_a_job(service: Service) -> psutil.Process:
    """The process of a job, stopped while it is at it."""
    found: list[psutil.Process] = []
    wait(lambda: found.extend(service.member("worker").children()) or found, 30)
    found[0].send_signal(signal.SIGSTOP)
    return found[0]


@pytest.mark.slow
def test_a_killed_service_goes_on_where_it_was(service: Service) -> None:
    with service.start() as client:
        publish(client, "org/base", 0)
        publish(client, "team/a", 1)
        finished = compose(client, "soups/one", 0.5)
        wait_built(client, finished)
        files = client.get(f"/v1/compositions/{finished}/files").json()
        under_way = [compose(client, f"soups/n{n}", float(n)) for n in range(2)]
        freeze_a_job(service)
    service.kill()
    (service.data / "staging" / "left").mkdir(parents=True)
    with service.start() as client:
        assert client.get(f"/v1/compositions/{finished}/files").json() == files
        wait_built(client, *under_way)
        for composition in under_way:
            commits = client.get(f"/v1/repos/{client.get(f'/v1/compositions/{composition}').json()['name']}/commits")
            assert len(commits.json()["items"]) == 1
        again = client.post("/v1/compositions", json={"name": "soups/one", "recipe": RECIPE | {"scale": 0.5}})
        assert again.status_code == 200
    assert not list((service.data / "staging").rglob("*"))
    assert service.stop() == 0


@pytest.mark.slow
def test_what_dies_is_started_again(service: Service) -> None:
    with service.start() as client:
        publish(client, "org/base", 0)
        publish(client, "team/a", 1)
        for part in ("valkey-server", "reconcile", "worker", "http"):
            victim = service.member(part)
            victim.kill()
            wait(lambda victim=victim: not is_alive(victim), 5)
    with httpx.Client(base_url=client.base_url, timeout=30) as anew:
        wait(lambda: anew.get("/readyz").status_code == 200, 30)
        wait_built(anew, compose(anew, "soups/one", 0.5))
    assert service.stop() == 0


def test_a_stopped_service_leaves_no_process_and_no_address(service: Service) -> None:
    service.start().close()
    assert {part for part in ("valkey-server", "worker", "reconcile", "http") if service.member(part)}
    assert service.stop() == 0
    assert not (service.data / "address").exists()


def test_two_services_do_not_share_a_data_folder(service: Service) -> None:
    service.start().close()
    environment = {"STOCKPOT_DATA": str(service.data), "STOCKPOT_PORT": "0"}
    second = subprocess.run([sys.executable, "-c", START, "serve"], env=environment, capture_output=True, text=True)
    assert second.returncode != 0
    assert "another service is running in this data folder" in second.stderr
    assert (service.data / "address").exists()


def test_a_service_that_others_reach_does_not_start_without_a_token(tmp_path: Path) -> None:
    environment = {"STOCKPOT_DATA": str(tmp_path), "STOCKPOT_PORT": "0", "STOCKPOT_HOST": "0.0.0.0"}
    refused = subprocess.run([sys.executable, "-c", START, "serve"], env=environment, capture_output=True, text=True)
    assert refused.returncode != 0
    assert "no token exists" in refused.stderr


@pytest.mark.slow
def test_every_part_can_be_elsewhere(tmp_path: Path) -> None:
    with postgres() as database, object_store() as endpoint, redis_server(tmp_path / "queue") as queue:
        places = {"DATABASE_URL": database, "BLOB_URL": "s3://pot/blobs", "REDIS_URL": queue}
        settings = {**places, **bucket(endpoint, "pot")}
        front = Service(tmp_path / "front", {**settings, "STOCKPOT_WORKERS": "0"})
        back = Service(tmp_path / "back", settings)
        with front.start() as client:
            back.start_worker()
            publish(client, "org/base", 0)
            publish(client, "team/a", 1)
            composition = compose(client, "soups/one", 0.5)
            wait_built(client, composition)
            listed = client.get(f"/v1/compositions/{composition}/files").json()["files"]
            for file in listed:
                content = client.get(f"/v1/compositions/{composition}/files/{file['path']}").content
                assert sha256(content).hexdigest() == file["sha256"]
        assert (back.stop(), front.stop()) == (0, 0)
        assert not list((tmp_path / "back" / "staging").rglob("*"))


@contextmanager
def redis_server(data: Path) -> Iterator[str]:
    """A queue that no service of ours has started."""
    data.mkdir()
    valkey = Valkey(data)
    server = subprocess.Popen(valkey.command())
    try:
        valkey.wait(server)
        yield valkey.url
    finally:
        server.terminate()
        server.wait()
        valkey.remove()
