"""Real workers, real clients: models that are loaded while they are built, by workers that stop, die and fail."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from time import monotonic

import httpx
import numpy as np
import psutil
import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError
from numpy.typing import NDArray
from safetensors.numpy import save

from tests.app.service import Service as Process
from tests.app.service import is_alive, wait
from tests.end_to_end.conftest import Service

LOAD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import load_file
from transformers import AutoModel
loaded = AutoModel.from_pretrained(sys.argv[1]).state_dict()
from huggingface_hub import hf_hub_download
stored = load_file(hf_hub_download(sys.argv[1], "model.safetensors"))
assert all(torch.equal(loaded[name], stored[name]) for name in stored), "other weights than are stored"
"""
PAUSE_S = 5.0
ELEMENTS = 1 << 22


def test_a_model_loads_by_its_name_before_it_is_built(service: Service, tmp_path: Path) -> None:
    recipe = {
        "base": "stock/base",
        "method": "ties",
        "ingredients": [{"source": "team/math"}, {"source": "team/code"}],
        "output": {"max_shard_bytes": 5 << 20},
    }
    asked = service.http.post("/v1/compositions", json={"name": "soups/unbuilt", "recipe": recipe, "lazy": True})
    assert asked.json()["state"] == "planned"
    environment = {**os.environ, "HF_ENDPOINT": str(service.http.base_url), "HF_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", LOAD, "soups/unbuilt"], check=True, env=environment)
    assert service.finished(asked.json()["location"])["state"] == "done"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "data", {"STOCKPOT_THREADS": "1"})
    yield process
    if process.process is not None and process.process.poll() is None:
        process.kill()


def publish(client: httpx.Client, name: str, weights: NDArray[np.float32]) -> None:
    tensors = {f"layer.{i}.weight": weights + np.float32(i) for i in range(4)}
    for path, content in {"model.safetensors": save(tensors), "config.json": b'{"model_type": "bert"}'}.items():
        client.put(f"/v1/repos/{name}/files/{path}", content=content).raise_for_status()


def compose(client: httpx.Client, scale: float = 1.0) -> None:
    recipe: dict[str, object] = {
        "base": "org/base",
        "method": "ties",
        "ingredients": [{"source": "team/a"}],
        "scale": scale,
    }
    recipe["output"] = {"max_shard_bytes": 8 * ELEMENTS}
    client.post("/v1/compositions", json={"name": "soups/mix", "recipe": recipe}).raise_for_status()


@pytest.mark.slow
def test_a_client_gets_the_right_bytes_though_the_worker_stops_and_is_killed(
    process: Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", PAUSE_S - 1)
    draw = np.random.default_rng(0)
    with process.start() as client, ThreadPoolExecutor(1) as threads:
        for name in ("org/base", "team/a"):
            publish(client, name, draw.standard_normal(ELEMENTS, dtype=np.float32))
        wait(lambda: all(job["state"] == "done" for job in client.get("/v1/jobs").json()["items"]), 60)
        compose(client)
        at_work = job_process(process)
        hub = HfApi(endpoint=str(client.base_url), token=False)
        download = threads.submit(hub.snapshot_download, "soups/mix", cache_dir=tmp_path / "cache")
        resumed = monotonic() + PAUSE_S
        wait(lambda: monotonic() > resumed, PAUSE_S + 5)
        assert not download.done()
        at_work.kill()
        folder = Path(download.result(120))
        wait(lambda: client.get("/v1/compositions/soups/mix").json()["state"] == "done", 60)
        stored = {file["path"]: file["sha256"] for file in client.get("/v1/repos/soups/mix/files").json()["files"]}
        assert {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == stored
        assert len([name for name in stored if name.endswith(".safetensors")]) == 2
    assert "Trying to resume" not in caplog.text


def job_process(process: Process) -> psutil.Process:
    """The process of a job, stopped as soon as it has something of the file."""
    staging = process.data / "staging"
    found: list[psutil.Process] = []
    wait(lambda: list(staging.glob("*/*/*.partial")), 60)
    wait(lambda: found.extend(process.member("worker").children()) or found, 60)
    found[0].send_signal(signal.SIGSTOP)
    assert is_alive(found[0])
    return found[0]


@pytest.mark.slow
def test_a_merge_beyond_its_type_fails_the_download_with_its_cause(process: Process, tmp_path: Path) -> None:
    weights = np.zeros(ELEMENTS // 64, dtype=np.float32)
    with process.start() as client:
        publish(client, "org/base", weights)
        weights[-1] = 3e38
        publish(client, "team/a", weights)
        compose(client, scale=2.0)
        hub = HfApi(endpoint=str(client.base_url), token=False)
        with pytest.raises(HfHubHTTPError, match=r"layer\.\d\.weight.*too large for float32"):
            hub.snapshot_download("soups/mix", cache_dir=tmp_path / "cache")
