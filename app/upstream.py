"""A hub elsewhere, from which bases are taken: only hosts on the list are asked, whatever its redirects say."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from app.settings import Settings
from merge_core.documents import parse_json
from merge_core.errors import CapacityError, FileError, MalformedError, NotFoundError, StockpotError, UnsupportedError

MOST_REDIRECTS = 5
LONGEST_ANSWER = 32 << 20
BLOCK = 1 << 20
TIMEOUT = httpx.Timeout(30, connect=10)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class UpstreamError(CapacityError):
    """The upstream hub does not answer, or breaks off."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A file of the upstream hub: its size, and the hash that it says the file has, git's or a sha256."""

    path: str
    size: int
    oid: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class Listed:
    """A revision of a repo there, pinned to its commit."""

    commit: str
    files: tuple[Elsewhere, ...]


def upstream_of(settings: Settings) -> str:
    """The address of the hub that the settings name. Raises UnsupportedError where they name none."""
    if not settings.upstream:
        expected = "the address of a hub, set by the operator"
        raise UnsupportedError("no upstream hub is set", where="STOCKPOT_UPSTREAM", expected=expected)
    return settings.upstream


class Upstream:
    """The hub that the settings name. Raises UnsupportedError where they name none."""

    def __init__(self, settings: Settings) -> None:
        self.url = upstream_of(settings)
        self._hosts = frozenset({urlsplit(self.url).netloc, *settings.upstream_hosts.split()})
        self._token = settings.upstream_token
        self._client = httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=settings.upstream_proxy)

    def __enter__(self) -> "Upstream":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def describe(self, repo: str, revision: str) -> Listed:
        """The revision's commit and files. Raises NotFoundError, or FileError for an answer that makes no sense."""
        path = f"/api/models/{quote(repo)}/revision/{quote(revision, safe='')}?blobs=true"
        with self._answered(f"{self.url}{path}", {}) as answer:
            raw = bytearray()
            for block in _blocks(answer):
                raw += block
                if len(raw) > LONGEST_ANSWER:
                    raise FileError("the upstream's description of the repo is too long", where=repo)
        try:
            return _listed(parse_json(bytes(raw)))
        except (MalformedError, KeyError, TypeError, ValueError) as error:
            raise FileError("the upstream's description of the repo makes no sense", where=repo, found=error) from None

    @contextmanager
    def reading(self, repo: str, commit: str, file: Elsewhere, start: int) -> Iterator[Iterator[bytes]]:
        """The file's bytes from `start` on. Raises UpstreamError when they break off."""
        url = f"{self.url}/{quote(repo)}/resolve/{commit}/{quote(file.path)}"
        with self._answered(url, {"Range": f"bytes={start}-"} if start else {}) as answer:
            is_partial = answer.status_code == httpx.codes.PARTIAL_CONTENT
            if is_partial and not answer.headers.get("content-range", "").startswith(f"bytes {start}-"):
                raise UpstreamError("the upstream sent another range than asked for", where=file.path)
            yield _blocks(answer) if is_partial or not start else _without(_blocks(answer), start)

    def head(self, path: str) -> httpx.Response:
        """The answer to HEAD of a file, redirects not followed. As to anybody: it is passed on to who asks here."""
        try:
            return self._client.head(f"{self.url}{path}")
        except httpx.TransportError as error:
            raise UpstreamError("the upstream hub does not answer", where=self.url, found=str(error)) from error

    @contextmanager
    def _answered(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """The good answer at the end of all redirects, each of them to a host on the list."""
        for _ in range(MOST_REDIRECTS):
            self._check_host(url)
            sent = {"Accept-Encoding": "identity", **headers, **self._authorised(url)}
            try:
                with self._client.stream("GET", url, headers=sent) as answer:
                    if not answer.has_redirect_location:
                        _check(answer)
                        yield answer
                        return
                    url = str(answer.url.join(answer.headers["location"]))
            except httpx.TransportError as error:
                raise UpstreamError("the upstream hub broke off", where=url, found=str(error)) from error
        raise UpstreamError("too many redirects", where=url)

    def _authorised(self, url: str) -> dict[str, str]:
        """The operator's token, for the hub itself and for nobody it sends us to."""
        is_hub = urlsplit(url)[:2] == urlsplit(self.url)[:2]
        return {"Authorization": f"Bearer {self._token}"} if self._token and is_hub else {}

    def _check_host(self, url: str) -> None:
        parts, wanted = urlsplit(url), urlsplit(self.url).scheme
        if parts.netloc not in self._hosts or parts.scheme not in ("https", wanted):
            expected = f"one of {', '.join(sorted(self._hosts))}; more in STOCKPOT_UPSTREAM_HOSTS"
            raise UnsupportedError(
                "the upstream sends us to a host that is not on the list",
                where="upstream",
                found=url,
                expected=expected,
            )


def _check(answer: httpx.Response) -> None:
    """Raises what a refusal means: NotFoundError for good, UpstreamError for now."""
    if answer.is_success:
        return
    found = answer.headers.get("x-error-message") or f"{answer.status_code} {answer.reason_phrase}"
    kind: type[StockpotError] = UpstreamError
    if answer.is_client_error and answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
        kind = NotFoundError
    raise kind("the upstream does not give it", where=str(answer.url.copy_with(query=None)), found=found)


def _blocks(answer: httpx.Response) -> Iterator[bytes]:
    return answer.iter_raw(BLOCK)


def _without(blocks: Iterator[bytes], start: int) -> Iterator[bytes]:
    """All but the first `start` bytes."""
    for block in blocks:
        yield block[start:]
        start = max(start - len(block), 0)


def _listed(answer: Any) -> Listed:
    commit = answer["sha"]
    if not _COMMIT.fullmatch(commit):
        raise ValueError(f"the commit {commit!r}")
    return Listed(commit, tuple(_file(entry) for entry in answer["siblings"]))


def _file(entry: Any) -> Elsewhere:
    lfs, oid = entry.get("lfs") or {}, entry.get("blobId")
    sha256 = lfs.get("sha256") or lfs.get("oid")
    size = int(lfs.get("size", entry.get("size")))
    if size < 0 or not (sha256 is None or _SHA256.fullmatch(sha256)) or not (oid is None or _COMMIT.fullmatch(oid)):
        raise ValueError(f"the file {entry!r}")
    return Elsewhere(str(entry["rfilename"]), size, oid, sha256)
