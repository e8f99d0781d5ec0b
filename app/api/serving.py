"""Serving a blob as a file: ranges, entity tags, HEAD, and headers that keep a browser from running it."""

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.problems import RangeError
from app.store.blobs import Blobs

MOST_RANGES = 16
SHOWN_AS = {".json": "application/json", ".md": "text/plain; charset=utf-8", ".txt": "text/plain; charset=utf-8"}
SAFETY = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, no-cache",
}
_RANGE = re.compile(r"([0-9]{1,18})-([0-9]{1,18})?|-([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Served:
    """A file of a repo as it is sent: where its bytes are, and what identifies them: the sha256 if nothing else.

    `former` is an entity tag that was given for the same bytes before their hash was known.
    """

    path: str
    blobs: Blobs
    sha256: str
    size: int
    commit: str
    etag: str = ""
    former: str = ""


def serve(request: Request, served: Served) -> Response:
    """The response to a GET or HEAD of a file; raises RangeError when it asks for bytes that do not exist."""
    headers = file_headers(served)
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    ranges = wanted_ranges(request, headers["ETag"], served.size, f'"{served.former}"')
    if served.blobs.is_whole(served.sha256) or "," in (ranges or ""):
        return BlobResponse(served.blobs.local_path(served.sha256), ranges, headers, media_type_of(served.path))
    return _decoded(request, served, ranges, headers)


def _decoded(request: Request, served: Served, ranges: str | None, headers: dict[str, str]) -> Response:
    """From a packed blob: what is asked for is decoded as it is sent, and nothing else."""
    first, last = (0, served.size - 1) if ranges is None else map(int, ranges.removeprefix("bytes=").split("-"))
    headers |= {"Content-Length": str(last + 1 - first)}
    if ranges is not None:
        headers |= {"Content-Range": f"bytes {first}-{last}/{served.size}"}
    media_type, status = media_type_of(served.path), 200 if ranges is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media_type)
    pieces = served.blobs.read(served.sha256, first, last + 1)
    return StreamingResponse(pieces, status_code=status, headers=headers, media_type=media_type)


class BlobResponse(FileResponse):
    """FileResponse that sends exactly the ranges it is given and whose entity tag is the content's hash.

    Starlette answers 400 to a unit it does not know and 416 when one range of several is out of reach;
    RFC 9110 section 14 wants the first ignored and the others sent. So the header it sees is written anew.
    """

    chunk_size = 1 << 20  # each piece is read on another thread: with 64 KiB a download ran at half the speed

    def __init__(self, blob: Path, ranges: str | None, headers: dict[str, str], media_type: str) -> None:
        super().__init__(blob, headers=headers, media_type=media_type, stat_result=blob.stat())
        self._ranges = ranges

    def set_stat_headers(self, stat_result: os.stat_result) -> None:
        """A blob's date says nothing about the file: two files of one second would pass for the same."""
        self.headers.setdefault("content-length", str(stat_result.st_size))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = MutableHeaders(raw=[pair for pair in scope["headers"] if pair[0] not in (b"range", b"if-range")])
        if self._ranges is not None:
            headers["range"] = self._ranges
        await super().__call__({**scope, "headers": headers.raw}, receive, send)


def wanted_ranges(request: Request, etag: str, size: int, former: str = "") -> str | None:
    """The Range header reduced to what can be sent; None sends the whole file."""
    header = request.headers.get("range")
    condition = request.headers.get("if-range")
    if request.method != "GET" or header is None or (condition not in (None, etag, former)):
        return None
    unit, _, text = header.partition("=")
    matches = [_RANGE.fullmatch(part.strip()) for part in text.split(",")]
    if unit.strip().lower() != "bytes" or len(matches) > MOST_RANGES:
        return None
    spans = [_span(match, size) for match in matches if match]
    if len(spans) < len(matches) or any(last < first for first, last in spans if first < size):
        return None
    return _reachable(header, spans, size)


def _reachable(header: str, spans: list[tuple[int, int]], size: int) -> str:
    kept = [(first, min(last, size - 1)) for first, last in spans if first < size]
    if not kept:
        raise RangeError(header, size)
    return "bytes=" + ",".join(f"{first}-{last}" for first, last in kept)


def _span(match: re.Match[str], size: int) -> tuple[int, int]:
    """First and last byte asked for; a first at or beyond `size` is out of reach."""
    first, last, suffix = match.groups()
    if suffix is not None:
        return (max(size - int(suffix), 0), size - 1) if int(suffix) else (size, size)
    return int(first), int(last) if last else max(size - 1, int(first))


def is_known(header: str | None, etag: str) -> bool:
    """True when an If-None-Match header names the entity tag."""
    tags = [tag.strip().removeprefix("W/") for tag in (header or "").split(",")]
    return etag in tags or "*" in tags


def file_headers(served: Served) -> dict[str, str]:
    """What every response with a file says of it."""
    name = quote(PurePosixPath(served.path).name)
    return {
        "ETag": f'"{served.etag or served.sha256}"',
        "Accept-Ranges": "bytes",
        "X-Repo-Commit": served.commit,
        "Content-Disposition": f"attachment; filename*=UTF-8''{name}",
        **SAFETY,
    }


def media_type_of(path: str) -> str:
    """What a browser may make of the file."""
    return SHOWN_AS.get(PurePosixPath(path).suffix.lower(), "application/octet-stream")
