"""A running service, as the subcommands that talk to one see it: typed answers, and errors as sentences."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from merge_core.errors import FileError, StockpotError

DEFAULT_URL = "http://127.0.0.1:8080"
BLOCK = 1 << 20
TRIES = 5
POLL_S = 0.25
OPEN = ("queued", "running")

Url = Annotated[str, typer.Option("--url", envvar="STOCKPOT_URL", help="Address of the service.")]
Secret = Annotated[
    str | None, typer.Option("--token", envvar="STOCKPOT_TOKEN", help="Token; better in the environment.")
]


class RemoteError(StockpotError):
    """The service refused, or could not be reached."""


class Remote:
    """One service; every method raises RemoteError with the service's own words."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client

    def ask(self, method: str, path: str, **request: Any) -> Any:
        """The JSON answer to one request."""
        answer = checked(self._send(lambda: self._client.request(method, path, **request)))
        return answer.json() if answer.content else None

    def send_blob(self, repo: str, sha256: str, path: Path, progress: Callable[[int], None]) -> None:
        """Upload a file's bytes, going on where an earlier try stopped."""
        size = path.stat().st_size
        for attempt in range(TRIES):
            start = self.ask("GET", f"/v1/repos/{repo}/uploads/{sha256}")["received"]
            progress(start)
            try:
                checked(self._put(repo, sha256, path, start, size, progress))
                return
            except httpx.TransportError as error:
                if attempt == TRIES - 1:
                    raise RemoteError(f"the upload broke off: {error}", where=path.name) from error

    def _put(
        self, repo: str, sha256: str, path: Path, start: int, size: int, progress: Callable[[int], None]
    ) -> httpx.Response:
        headers = {"Content-Length": str(size - start)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        return self._client.put(
            f"/v1/repos/{repo}/blobs/{sha256}", content=_blocks(path, start, progress), headers=headers
        )

    def fetch(self, path: str, target: Path, sha256: str, progress: Callable[[int], None]) -> None:
        """Download to `target`, going on from a partial file, and check the hash."""
        partial = target.with_name(target.name + ".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            try:
                self._download(path, partial, progress)
                break
            except httpx.TransportError as error:
                if attempt == TRIES - 1:
                    raise RemoteError(f"the download broke off: {error}", where=path) from error
        found = hash_file(partial)
        if found != sha256:
            partial.unlink()
            raise FileError("the downloaded bytes are wrong", where=target.name, found=found, expected=sha256)
        partial.replace(target)

    def _download(self, path: str, partial: Path, progress: Callable[[int], None]) -> None:
        start = partial.stat().st_size if partial.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._client.stream("GET", path, headers=headers) as answer:
            if answer.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return
            checked(answer)
            if answer.status_code != httpx.codes.PARTIAL_CONTENT:
                start = 0
            with partial.open("r+b" if start else "wb") as stream:
                stream.seek(start)
                progress(start)
                for block in answer.iter_bytes(BLOCK):
                    stream.write(block)
                    progress(stream.tell())

    def _send(self, request: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            return request()
        except httpx.TransportError as error:
            hint = "a running service: `stockpot serve`, or --url"
            raise RemoteError(
                "the service does not answer", where=str(self._client.base_url), found=str(error), expected=hint
            ) from error


@contextmanager
def connect(url: str, token: str | None) -> Iterator[Remote]:
    """The service at `url`."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = httpx.Timeout(60, read=600)
    # A proxy from the environment is for the outside, and would be asked for loopback too.
    trusts_environment = "STOCKPOT_PROXY" in os.environ
    with httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=trusts_environment) as client:
        yield Remote(client)


def checked(answer: httpx.Response) -> httpx.Response:
    """The answer, if it is a good one; else its problem as RemoteError."""
    if answer.is_success:
        return answer
    answer.read()
    is_problem = "json" in answer.headers.get("content-type", "")
    problem = answer.json() if is_problem else {}
    message = problem.get("detail") or problem.get("title") or f"{answer.status_code} {answer.reason_phrase}"
    raise RemoteError(message, where=problem.get("field"), found=problem.get("found"), expected=problem.get("expected"))


def followed(remote: Remote, job: dict[str, Any], progress: Callable[[int, int], None]) -> dict[str, Any]:
    """The job once it is done. Raises RemoteError when it fails or is cancelled."""
    while job["state"] in OPEN:
        time.sleep(POLL_S)
        job = remote.ask("GET", f"/v1/jobs/{job['id']}")
        progress(job["done"], job["total"])
    if job["state"] != "done":
        error = job["error"] or {}
        raise RemoteError(error.get("message") or f"the job was {job['state']}", where=error.get("where"))
    return job


def hash_file(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _blocks(path: Path, start: int, progress: Callable[[int], None]) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(start)
        while block := stream.read(BLOCK):
            yield block
            progress(stream.tell())
