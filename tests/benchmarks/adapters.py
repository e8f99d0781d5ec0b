"""Many small adapters of one base, published over HTTP and looked at: how many a second, and what they take."""

import http.client
import json
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import httpx
import numpy
import psutil
from safetensors.numpy import save

from tests.app.service import Service
from tests.benchmarks.measure import BenchmarkError

COUNT = 1000
CLIENTS = 8
LAYERS, WIDTH, RANK = 8, 64, 4
BASE = "org/base"
MODULE = "model.layers.{layer}.self_attn.q_proj"
POLL_S, LONGEST_S = 0.2, 600.0
OPEN = ("queued", "running")

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Taken:
    """What `count` adapters took: seconds from the first request on, and seconds of processor."""

    count: int
    published_s: float
    ingested_s: float
    files_s: float
    api_s: float
    worker_s: float
    file_bytes: int
    blob_bytes: int
    record_bytes: int


def adapter_lines(work: Path, count: int = COUNT) -> Iterator[str]:
    """How fast `count` adapters are in and known, beside their files written and synced; and their bytes."""
    taken = adapters_taken(work, count)
    yield (
        f"{count} small adapters of one base: {count / taken.ingested_s:.1f} a second published and looked at "
        f"({count / taken.published_s:.1f} published), {count / taken.files_s:.1f} written as files and synced; "
        f"processor for each: {1000 * taken.api_s / count:.1f} ms API, {1000 * taken.worker_s / count:.1f} ms worker"
    )
    share = taken.blob_bytes / taken.file_bytes
    yield (
        f"{count} small adapters of one base: files {taken.file_bytes / 1e6:.2f} MB, blobs "
        f"{taken.blob_bytes / 1e6:.2f} MB ({share:.2f} of them), records {taken.record_bytes / count / 1e3:.1f} kB each"
    )


def adapters_taken(work: Path, count: int) -> Taken:
    """Publish them to a service of their own."""
    adapters = [_adapter(seed) for seed in range(count)]
    files_s = _written(work / "files", adapters)
    service = Service(work / "pot")
    with service.start() as client:
        try:
            return _taken(service, client, adapters, files_s)
        finally:
            service.stop()


def _taken(service: Service, client: httpx.Client, adapters: Sequence[Files], files_s: float) -> Taken:
    address = client.base_url.netloc.decode()
    _publish(address, BASE, _base())
    _wait_until_known(client)
    api, worker = (service.member(role) for role in ("http", "worker"))
    before, records = (_seconds(api), _seconds(worker)), _record_bytes(service.data)
    blobs = _metric(client, "stockpot_blobs_stored_bytes")
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(lambda first: _publish_some(address, adapters, first), range(CLIENTS)))
    published = time.perf_counter()
    _wait_until_known(client)
    ended = time.perf_counter()
    _check(client, len(adapters))
    return Taken(
        count=len(adapters),
        published_s=published - started,
        ingested_s=ended - started,
        files_s=files_s,
        api_s=_seconds(api) - before[0],
        worker_s=_seconds(worker) - before[1],
        file_bytes=sum(len(data) for files in adapters for data in files.values()),
        blob_bytes=int(_metric(client, "stockpot_blobs_stored_bytes") - blobs),
        record_bytes=_record_bytes(service.data) - records,
    )


def _adapter(seed: int) -> Files:
    random = numpy.random.default_rng(seed)
    shapes = {"A": (RANK, WIDTH), "B": (WIDTH, RANK)}
    tensors = {
        f"base_model.model.{MODULE.format(layer=layer)}.lora_{side}.weight": random.standard_normal(
            shape, numpy.float32
        )
        for layer in range(LAYERS)
        for side, shape in shapes.items()
    }
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"]}
    described = json.dumps(config | {"base_model_name_or_path": BASE}).encode()
    return {"adapter_model.safetensors": save(tensors), "adapter_config.json": described}


def _base() -> Files:
    random = numpy.random.default_rng(COUNT)
    names = [f"{MODULE.format(layer=layer)}.weight" for layer in range(LAYERS)]
    tensors = {name: random.standard_normal((WIDTH, WIDTH), numpy.float32) for name in names}
    return {"model.safetensors": save(tensors), "config.json": b'{"model_type": "llama"}'}


def _written(folder: Path, adapters: Sequence[Files]) -> float:
    """Seconds in which one thread writes each adapter to a folder of its own, and syncs it."""
    started = time.perf_counter()
    for number, files in enumerate(adapters):
        place = folder / str(number)
        place.mkdir(parents=True)
        for name, data in files.items():
            with (place / name).open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return time.perf_counter() - started


def _publish_some(address: str, adapters: Sequence[Files], first: int) -> None:
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        for number in range(first, len(adapters), CLIENTS):
            _send_all(connection, f"ci/adapter-{number}", adapters[number])


def _publish(address: str, repo: str, files: Files) -> None:
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        _send_all(connection, repo, files)


def _send_all(connection: http.client.HTTPConnection, repo: str, files: Files) -> None:
    """The files' bytes, then a commit of them."""
    hashes = {name: sha256(data).hexdigest() for name, data in files.items()}
    for name, data in files.items():
        _send(connection, "PUT", f"/v1/repos/{repo}/blobs/{hashes[name]}", data)
    listed = [{"path": name, "sha256": digest} for name, digest in hashes.items()]
    _send(connection, "POST", f"/v1/repos/{repo}/commits", json.dumps({"files": listed}).encode())


def _send(connection: http.client.HTTPConnection, method: str, path: str, body: bytes) -> None:
    connection.request(method, path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status != http.HTTPStatus.CREATED:
        raise BenchmarkError(f"{method} {path}: {response.status} {answer.decode()}")


def _wait_until_known(client: httpx.Client) -> None:
    """Until no job is open."""
    deadline = time.monotonic() + LONGEST_S
    while any(client.get("/v1/jobs", params={"state": state, "limit": 1}).json()["items"] for state in OPEN):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"jobs are still open after {LONGEST_S:.0f} s")
        time.sleep(POLL_S)


def _check(client: httpx.Client, count: int) -> None:
    """Every adapter is known as a delta of the base."""
    asked: dict[str, str | int] = {"base": BASE, "limit": 500}
    known, cursor = 0, ""
    while cursor is not None:
        page = client.get("/v1/deltas", params=asked | ({"cursor": cursor} if cursor else {})).json()
        known += sum(delta["state"] == "ok" for delta in page["items"])
        cursor = page["next_cursor"]
    if known != count:
        raise BenchmarkError(f"{known} of {count} adapters are known as deltas of {BASE}")


def _seconds(process: psutil.Process) -> float:
    """Of processor, with those of children that have ended."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def _metric(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.split()[1] for line in lines if line.split()[0] == name))


def _record_bytes(data: Path) -> int:
    return sum(path.stat().st_size for path in data.glob("stockpot.db*"))
