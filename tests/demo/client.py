"""What a user's script does over HTTP: publish files, order a composition, follow it, download it."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.demo.service import DemoError, wait_for

BUILD_S = 120.0
OnProgress = Callable[[int, int], None]


class Client:
    """A service at one address. Every answer that is not a success is a DemoError with the answer's own words."""

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=url, timeout=60.0)

    def publish(self, repo: str, files: Mapping[str, Path]) -> int:
        """Put the files into the repo; how many bytes they are."""
        for path, file in files.items():
            headers = {"X-Content-SHA256": sha256(file), "Content-Type": "application/octet-stream"}
            with file.open("rb") as body:
                _checked(self.http.put(f"/v1/repos/{repo}/files/{path}", content=body, headers=headers))
        return sum(file.stat().st_size for file in files.values())

    def compose(self, name: str, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Order a composition; the answer has its id and the id of its job."""
        return _json(self.http.post("/v1/compositions", json={"name": name, "recipe": recipe}))

    def follow(self, composition: Mapping[str, Any], on_progress: OnProgress) -> None:
        """Return when the composition is done; DemoError when it failed or was cancelled."""

        def finished() -> bool | None:
            job = _json(self.http.get(f"/v1/jobs/{composition['job']}"))
            on_progress(job["done"], job["total"])
            found = _json(self.http.get(f"/v1/compositions/{composition['id']}"))
            if found["state"] in ("failed", "cancelled"):
                raise DemoError(f"{found['name']} {found['state']}: {found['error']}")
            return True if found["state"] == "done" else None

        wait_for(finished, BUILD_S, f"composition {composition['id']}")

    def download(self, repo: str, folder: Path) -> int:
        """Every file of the repo's newest commit, each compared with its sha256; how many bytes they are."""
        files = _json(self.http.get(f"/v1/repos/{repo}/files"))["files"]
        for file in files:
            target = folder / file["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(f"/v1/repos/{repo}/files/{file['path']}", target)
            if (found := sha256(target)) != file["sha256"]:
                raise DemoError(f"{repo}/{file['path']}: downloaded bytes hash to {found}, expected {file['sha256']}")
        return sum(int(file["size"]) for file in files)

    def _fetch(self, url: str, target: Path) -> None:
        with self.http.stream("GET", url) as answer, target.open("wb") as out:
            if answer.is_error:
                answer.read()
            for part in _checked(answer).iter_bytes():
                out.write(part)


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checked(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        raise DemoError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")
    return answer


def _json(answer: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = _checked(answer).json()
    return found
