"""Bases from elsewhere: another service of ours is the upstream hub, and one that lies, breaks off and redirects."""

import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from app.jobs import pulling
from app.jobs.perform import do, take
from app.settings import Settings
from app.store.records import FileEntry, Job
from tests.app.api.conftest import Pot, checkpoint, queue_url, running, settings_for, wait_until

__all__ = ["queue_url"]

WEIGHTS = checkpoint(0)
COMMIT = "c0ffee" + "0" * 34
FILES = {"config.json": b'{"model_type": "bert"}', "deep/notes.txt": b"text", "model.safetensors": WEIGHTS}

Puller = Callable[..., Pot]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other at once."""
    monkeypatch.setattr(pulling, "PAUSE_S", 0.0)


@pytest.fixture
def puller(tmp_path: Path, queue_url: str) -> Iterator[Puller]:
    """Services that take from an upstream; each is stopped at the end."""
    with ExitStack() as stack:

        def made(upstream: str, **others: Any) -> Pot:
            plain = settings_for(tmp_path / "here", queue_url)
            settings = Settings(**{**plain.model_dump(), "upstream": upstream, **others})
            return stack.enter_context(running(settings))

        yield made


@pytest.fixture
def upstream(tmp_path: Path, queue_url: str) -> Iterator[Pot]:
    with running(settings_for(tmp_path / "there", queue_url)) as there, there.client() as caller:
        for path, content in {**FILES, "tf_model.h5": b"the same once more"}.items():
            caller.put(f"/v1/repos/org/base/files/{path}", content=content).raise_for_status()
        yield there


def pull(pot: Pot, revision: str = "main") -> Job:
    """Ask for the base and do the job; the job as it is then."""
    with pot.client() as caller:
        answer = caller.post("/v1/pulls", json={"repo": "org/base", "revision": revision})
        answer.raise_for_status()
    return perform(pot, answer.json()["id"])


def perform(pot: Pot, job_id: str) -> Job:
    work = take(pot.inside.settings, pot.inside.store, job_id)
    assert work is not None
    do(work)
    job = pot.inside.store.get_job(job_id)
    assert job is not None
    return job


def files_of(pot: Pot) -> dict[str, bytes]:
    store = pot.inside.store
    tree = store.tree(store.head(store.require_repo("org/base")))
    return {entry.path: b"".join(pot.inside.blobs.read(entry.sha256)) for entry in tree}


def test_a_base_comes_with_the_id_of_its_commit(upstream: Pot, puller: Puller) -> None:
    here = puller(upstream.url)
    job = pull(here)
    there = upstream.inside.store.require_repo("org/base").head
    assert (job.state, here.inside.store.require_repo("org/base").head) == ("done", there)
    assert files_of(here) == FILES
    assert job.result is not None
    assert job.result["left"] == ["tf_model.h5"]
    assert [job.kind for job in here.inside.store.list_jobs(None, state="queued").items] == ["ingest"]


def test_a_second_pull_changes_nothing(upstream: Pot, puller: Puller) -> None:
    here = puller(upstream.url)
    first, second = pull(here), pull(here, upstream.inside.store.require_repo("org/base").head or "")
    assert first.result == second.result
    assert here.inside.store.count_commits(here.inside.store.require_repo("org/base")) == 1


def test_what_is_not_there_is_named(upstream: Pot, puller: Puller) -> None:
    job = pull(puller(upstream.url), "no/such")
    assert job.state == "failed"
    assert job.error is not None
    assert "no such revision" in job.error["found"]


def test_without_an_upstream_a_pull_is_refused(puller: Puller) -> None:
    with puller("").client() as caller:
        answer = caller.post("/v1/pulls", json={"repo": "org/base"})
    assert answer.status_code == 422
    assert answer.json()["where"] == "STOCKPOT_UPSTREAM"


class Liar:
    """A hub with one file, as bad as a test wants it."""

    def __init__(self) -> None:
        self.content, self.path = b"x" * (3 << 20), "model.safetensors"
        self.sha256 = sha256(self.content).hexdigest()
        self.piece = len(self.content)
        self.starts: list[int] = []
        self.redirect = ""
        self.refusals = 0
        self.authorizations: list[str | None] = []

    def _refusal(self) -> Response | None:
        """As hubs answer that are too busy for a moment."""
        self.refusals -= 1
        return None if self.refusals < 0 else Response(status_code=503 if self.refusals % 2 else 429)

    def info(self, _request: Request) -> Response:
        if refusal := self._refusal():
            return refusal
        lfs = {"sha256": self.sha256, "size": len(self.content), "pointerSize": 1}
        return JSONResponse({"sha": COMMIT, "siblings": [{"rfilename": self.path, "size": 1, "lfs": lfs}]})

    def file(self, request: Request) -> Response:
        self.authorizations.append(request.headers.get("authorization"))
        if refusal := self._refusal():
            return refusal
        if self.redirect and self.redirect != f"http://{request.url.netloc}":
            return RedirectResponse(f"{self.redirect}{request.url.path}", 302)
        start = int(request.headers.get("range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        self.starts.append(start)
        total = len(self.content)
        headers = {"Content-Length": str(total - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        return StreamingResponse(self._bytes(start), 206 if start else 200, headers)

    async def _bytes(self, start: int) -> AsyncIterator[bytes]:
        yield self.content[start : start + self.piece]
        if start + self.piece < len(self.content):
            raise ConnectionError("the hub breaks off")


@contextmanager
def served(liar: Liar) -> Iterator[str]:
    routes = [Route("/api/models/{rest:path}", liar.info), Route("/{rest:path}", liar.file)]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def liar() -> Liar:
    return Liar()


@pytest.fixture
def address(liar: Liar) -> Iterator[str]:
    with served(liar) as url:
        yield url


def test_a_pull_that_breaks_off_goes_on_where_it_was(liar: Liar, address: str, puller: Puller) -> None:
    liar.piece = 1 << 20
    here = puller(address)
    assert pull(here).state == "done"
    assert files_of(here) == {"model.safetensors": liar.content}
    assert liar.starts == [0, 1 << 20, 2 << 20]


def test_a_hub_that_sends_nothing_more_is_given_up(liar: Liar, address: str, puller: Puller) -> None:
    liar.piece = 0
    job = pull(puller(address))
    assert (job.state, job.error and job.error["type"]) == ("failed", "UpstreamError")


def test_a_hub_that_is_busy_for_a_moment_is_asked_again(liar: Liar, address: str, puller: Puller) -> None:
    liar.refusals = pulling.MOST_TRIES - 1
    here = puller(address)
    assert pull(here).state == "done"
    assert files_of(here) == {"model.safetensors": liar.content}


def test_a_hash_that_a_hub_names_gives_nobody_the_bytes_of_others(liar: Liar, address: str, puller: Puller) -> None:
    here, secret = puller(address), b"s" * len(liar.content)
    store = here.inside.store
    entry = FileEntry("model.safetensors", *here.inside.blobs.put_bytes(secret))
    store.record_blob(entry.sha256, entry.size)
    store.commit(store.create_repo("others", "hidden", private=True), {entry.path: entry}, "mine", "others")
    liar.sha256 = entry.sha256
    assert pull(here).state == "failed"
    assert store.require_repo("org/base").head is None
    assert here.inside.blobs.exists(entry.sha256)


def test_other_bytes_than_listed_become_nothing(liar: Liar, address: str, puller: Puller) -> None:
    liar.sha256 = sha256(b"something else").hexdigest()
    here = puller(address)
    job = pull(here)
    assert (job.state, job.error and job.error["type"]) == ("failed", "FileError")
    assert here.inside.store.require_repo("org/base").head is None
    assert not here.inside.blobs.exists(liar.sha256)


@pytest.mark.parametrize("path", ["../escape", "/etc/passwd", "a//b", "a\x00b", "a\\b"])
def test_a_path_that_leads_out_is_refused(liar: Liar, address: str, puller: Puller, path: str) -> None:
    liar.path = path
    here = puller(address)
    job = pull(here)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error["type"] in ("InputError", "FileError")
    assert here.inside.store.require_repo("org/base").head is None


def test_redirects_go_to_hosts_on_the_list_only(liar: Liar, address: str, puller: Puller) -> None:
    liar.redirect = address.replace("127.0.0.1", "localhost")
    job = pull(puller(address))
    assert job.state == "failed"
    assert job.error is not None
    assert "STOCKPOT_UPSTREAM_HOSTS" in job.error["expected"]


def test_the_token_is_for_the_hub_alone(liar: Liar, address: str, puller: Puller) -> None:
    liar.redirect = address.replace("127.0.0.1", "localhost")
    here = puller(address, upstream_hosts=liar.redirect.removeprefix("http://"), upstream_token="hf_secret")
    assert pull(here).state == "done"
    assert liar.authorizations == ["Bearer hf_secret", None]


def test_a_recipe_whose_base_is_elsewhere_says_how_to_bring_it(upstream: Pot, puller: Puller) -> None:
    recipe = {"method": "linear", "ingredients": [{"source": "org/base"}]}
    with puller(upstream.url).client() as caller:
        answer = caller.post("/v1/plan", json={"recipe": recipe})
    assert answer.status_code == 404
    assert f"`stockpot fetch org/base` brings it from {upstream.url}" in answer.json()["expected"]
