"""A worker played by hand, so that a build stands still where a test wants it to."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from app.jobs.perform import do, take
from app.store.compositions import INGEST
from app.store.records import EVERYBODY, Composition, Job, Ready
from app.store.resolve import StoreResolve
from merge_core.execute import execute
from merge_core.plan import make_plan
from merge_core.recipe import Recipe
from tests.app.api.conftest import Pot
from tests.app.hub.conftest import publish

FILE = "model.safetensors"
SIDE = {"config.json": b'{"model_type": "bert"}', "tokenizer.json": b'{"version": "1.0"}'}
ELEMENTS = 1 << 15


def wish(pot: Pot, scale: float = 1.0, secret: str | None = None, **fields: Any) -> dict[str, Any]:
    """A recipe over two published models of half a megabyte each."""
    for seed, name in enumerate(("one", "two")):
        repo = pot.inside.store.get_repo("team", name)
        if repo is None or repo.head is None:
            generator = torch.Generator().manual_seed(seed)
            tensors = {f"layer.{i}.weight": torch.randn(ELEMENTS, generator=generator) for i in range(4)}
            publish(pot, f"team/{name}", {FILE: save(tensors), **SIDE}, secret)
    ingredients = [{"source": "team/two", "weight": scale}]
    return {"base": "team/one", "method": "task_arithmetic", "ingredients": ingredients, **fields}


def ask(pot: Pot, name: str = "soups/mix", lazy: bool = False, secret: str | None = None, **fields: Any) -> Composition:
    """A composition of that recipe."""
    with pot.client(secret) as caller:
        asked = caller.post(
            "/v1/compositions", json={"name": name, "recipe": wish(pot, secret=secret, **fields), "lazy": lazy}
        )
    assert asked.status_code == 202, asked.text
    found = pot.inside.store.get_composition(asked.json()["id"])
    assert found is not None
    return found


def content_of(pot: Pot, composition: Composition, folder: Path) -> dict[str, bytes]:
    """What the files will be."""
    resolve = StoreResolve(pot.inside.store, pot.inside.blobs, EVERYBODY)
    paths = execute(make_plan(Recipe.parse(composition.recipe), resolve), folder, durable=False)
    return {path.name: path.read_bytes() for path in paths}


class Hand:
    """One attempt at one shard."""

    def __init__(self, pot: Pot, composition: Composition, content: bytes, shard: int = 0, name: str = "hand") -> None:
        self._pot, self._composition, self._content = pot, composition, content
        self.job: Job = pot.inside.store.shards_of(composition.job_id)[shard]
        lease = pot.inside.store.claim(self.job.id)
        assert lease is not None, "nobody else is at work"
        self.lease = lease
        self._place = f"staging/{self.job.id}/{name}/{FILE}"
        self.path = pot.data / f"{self._place}.partial"
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(bytes(len(content)))

    def grow(self, nbytes: int) -> None:
        """Write so far and say so."""
        with self.path.open("r+b") as file:
            file.write(self._content[:nbytes])
        self._pot.inside.store.progress(self.job.id, self.lease, nbytes, len(self._content), Ready(self._place, nbytes))

    def fail(self, **error: str) -> None:
        """End the build."""
        self._pot.inside.store.fail(self.job.id, self.lease, {"type": "FileError", **error})

    def die(self) -> None:
        """Leave as a process does that is killed: another attempt may begin."""
        self._pot.inside.store.requeue(self.job.id)

    def finish(self) -> None:
        """The rest of the shard, as a blob."""
        self.grow(len(self._content))
        store, path = self._pot.inside.store, self.path.with_name(FILE)
        self.path.rename(path)
        sha256, size = self._pot.inside.blobs.put_file(path)
        store.record_blob(sha256, size)
        store.finish(self.job.id, self.lease, {"path": FILE, "sha256": sha256, "size": size})


def work(pot: Pot) -> None:
    """Do what is due as workers do it, in this process."""
    inside = pot.inside
    while jobs := [job for job in inside.store.due_jobs() if job.kind != INGEST and job.state == "queued"]:
        for job in sorted(jobs, key=lambda job: job.parent_id is None):
            taken = take(inside.settings, inside.store, job.id)
            if taken is not None:
                do(taken)


def publish_built(pot: Pot, composition: Composition) -> None:
    """Do the finaliser's part."""
    taken = take(pot.inside.settings, pot.inside.store, composition.job_id)
    assert taken is not None
    do(taken)
