"""A service's parts as real processes, without HTTP: an embedded queue, workers, a reconciler, and models to merge."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
from safetensors.numpy import save

from app.jobs.queue import Jobs, connect
from app.jobs.valkey import Valkey
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.records import EVERYBODY, Composition, FileEntry, Job
from app.store.resolve import StoreResolve
from app.store.store import open_store
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe

TENSORS = 3
ELEMENTS = 1 << 14
SHARD_BYTES = ELEMENTS * 4  # a shard for each tensor


class Kitchen:
    """What a test of jobs works with."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = open_store(settings)
        self.blobs = Blobs(settings)
        self.redis = connect(settings)
        self.jobs = Jobs(settings, self.store, self.redis)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, role: str) -> "subprocess.Popen[bytes]":
        """A worker or a reconciler."""
        environment = {**os.environ, **self.settings.environment()}
        process = subprocess.Popen([sys.executable, "-m", "app.roles", role], env=environment)
        self._processes.append(process)
        return process

    def publish(self, name: str, seed: int) -> None:
        """A full checkpoint with weights drawn from `seed`."""
        draw = np.random.default_rng(seed)
        tensors = {f"layer.{i}.weight": draw.standard_normal(ELEMENTS, dtype=np.float32) for i in range(TENSORS)}
        files = {"model.safetensors": save(tensors, {"format": "pt"}), "config.json": b'{"model_type": "bert"}'}
        repo = self.store.ensure_repo(*name.split("/"))
        changes: dict[str, FileEntry | None] = {}
        for path, content in files.items():
            sha256, size = self.blobs.put_bytes(content)
            self.store.record_blob(sha256, size)
            changes[path] = FileEntry(path, sha256, size)
        self.store.commit(repo, changes, "publish", "me")

    def plan(self, scale: float = 1.0, method: object = "task_arithmetic") -> Plan:
        """The plan of a merge of two experts into a base, a tensor to a shard."""
        resolve = StoreResolve(self.store, self.blobs, EVERYBODY)
        names = {name: resolve(name).name for name in ("org/base", "team/a", "team/b")}
        wish = {
            "base": names["org/base"],
            "method": method,
            "scale": scale,
            "ingredients": [{"source": names["team/a"]}, {"source": names["team/b"]}],
            "output": {"max_shard_bytes": SHARD_BYTES},
        }
        return make_plan(Recipe.parse(wish), resolve)

    def compose(self, name: str = "soups/mix", scale: float = 1.0, method: object = "task_arithmetic") -> Composition:
        """Ask for that merge."""
        plan = self.plan(scale, method)
        recipe = plan.recipe.model_dump(mode="json")
        sizes = [shard.nbytes for shard in plan.shards]
        composition = self.store.create_composition(name, recipe, plan.digest, {}, sizes, author="me")
        self.jobs.submit_composition(composition)
        return composition

    def wait(self, reached: Callable[[], object], seconds: float = 30.0) -> float:
        """Seconds until it was so; fails when it does not come."""
        begun = time.monotonic()
        while not reached():
            assert time.monotonic() - begun < seconds, "it has not happened in time"
            time.sleep(0.01)
        return time.monotonic() - begun

    def wait_done(self, composition: Composition, seconds: float = 60.0) -> Composition:
        """The composition once it is built."""
        self.wait(lambda: not self.composition(composition).is_open, seconds)
        found = self.composition(composition)
        assert found.state == "done", found.error
        return found

    def composition(self, composition: Composition) -> Composition:
        """As it is now."""
        found = self.store.get_composition(composition.id)
        assert found is not None
        return found

    def job(self, job_id: str) -> Job:
        """As it is now."""
        job = self.store.get_job(job_id)
        assert job is not None
        return job

    def family(self, composition: Composition) -> list[Job]:
        """The finaliser and its shards."""
        return [self.job(composition.job_id), *self.store.shards_of(composition.job_id)]

    def happened(self, job: Job, kind: str) -> int:
        """How many events of this kind the job has had."""
        return [event.kind for event in self.store.events_since(job.id)].count(kind)

    def freeze_at_work(self, worker: "subprocess.Popen[bytes]") -> tuple[psutil.Process, Job]:
        """Stop the process of a job right after it has taken its lease, where it stays until it is let go on."""
        begun = time.monotonic()
        while True:
            assert time.monotonic() - begun < 30, "no job has begun"
            for child in psutil.Process(worker.pid).children():
                child.send_signal(signal.SIGSTOP)
                running = [job for job in self.store.due_jobs() if job.state == "running" and job.attempts]
                if running:
                    return child, running[0]
                child.send_signal(signal.SIGCONT)
            time.sleep(0.005)

    def staged(self) -> list[Path]:
        """Files that jobs have left in the staging folder."""
        return [path for path in self.settings.staging.rglob("*") if path.is_file()]

    def close(self) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
            process.wait()
        self.redis.close()
        self.store.close()


@contextmanager
def kitchen(data: Path) -> Iterator[Kitchen]:
    """A kitchen with an embedded queue and three models, and nobody at work yet."""
    data.mkdir(parents=True)
    valkey = Valkey(data)
    server = subprocess.Popen(valkey.command())
    try:
        valkey.wait(server)
        place = Kitchen(Settings(data=data, redis_url=valkey.url, threads=1))
        for seed, name in enumerate(("org/base", "team/a", "team/b")):
            place.publish(name, seed)
        yield place
        place.close()
    finally:
        server.terminate()
        server.wait()
        valkey.remove()
