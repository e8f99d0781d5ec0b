"""A file sent while it is built: what is known at once, then as it grows, and a byte now and then in between."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from time import monotonic

from fastapi import Request, Response
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.services import Services
from app.api.serving import Served, file_headers, is_known, media_type_of, wanted_ranges
from app.hub.builds import Build, Builds, Growing
from app.hub.errors import NotBuiltError
from app.hub.snapshots import Snapshot, SnapshotFile, why_not
from app.store.blobs import Blobs
from app.store.records import Composition
from merge_core.errors import NotFoundError

DRIP_S = 2.0
"""Clients give up after 10 s without a byte."""
SHORTEST_WAIT_S = 0.25
"""Where nothing is left to send a byte of."""
RESERVE = 1 << 14
"""Known bytes that are held back for times in which no others come: nine hours of them."""
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Bytes `first` up to `stop` of a file that `composition` makes."""

    composition: Composition
    file: SnapshotFile
    first: int
    stop: int


def streamed(pot: Services, request: Request, snapshot: Snapshot, file: SnapshotFile) -> Response:
    """The response with a file that is not built; a GET makes a composition that was only planned due.

    HEAD answers whatever became of the build: clients hide an error of HEAD behind an older copy. GET raises
    NotBuiltError, which they show and do not try again.
    """
    composition = snapshot.unbuilt
    assert composition is not None, "only what is not built has no hash"
    served = Served(file.path, pot.blobs, file.mark, file.size, snapshot.commit)
    headers, media_type = file_headers(served), media_type_of(file.path)
    if is_known(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    if request.method == "HEAD":
        return Response(headers=headers | {"Content-Length": str(file.size)}, media_type=media_type)
    if not composition.is_open:
        raise NotBuiltError(why_not(composition), where=f"file '{file.path}'")
    ranges = wanted_ranges(request, headers["ETag"], file.size)
    if composition.state == "planned":
        pot.jobs.start_composition(composition)
    first, last = 0, file.size - 1
    if ranges is not None and "," not in ranges:  # several are answered with the whole file
        first, last = map(int, ranges.removeprefix("bytes=").split("-"))
        headers |= {"Content-Range": f"bytes {first}-{last}/{file.size}"}
    headers |= {"Content-Length": str(last + 1 - first)}
    return GrowingResponse(pot.blobs, request.app.state.builds, Wanted(composition, file, first, last + 1), headers)


class CutShortError(Exception):
    """The rest of the file will not come."""


class GrowingResponse(StreamingResponse):
    """A file as it grows. Where it breaks off the connection is closed before the promised length is reached."""

    def __init__(self, blobs: Blobs, builds: Builds, wanted: Wanted, headers: dict[str, str]) -> None:
        status = 206 if "Content-Range" in headers else 200
        super().__init__(iter(()), status, headers, media_type_of(wanted.file.path))
        self._blobs, self._builds, self._wanted = blobs, builds, wanted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        planned = self._wanted.file.planned
        assert planned is not None, "what is not built was planned"
        async with self._builds.following(self._wanted.composition, planned) as build:
            self.body_iterator = _Stream(self._blobs, build, self._wanted).pieces()
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except CutShortError:
            return  # without its last message the server closes the connection


class _Stream:
    """The pieces for one client."""

    def __init__(self, blobs: Blobs, build: Build, wanted: Wanted) -> None:
        planned = wanted.file.planned
        assert planned is not None
        assert planned.shard is not None
        self._blobs, self._build, self._wanted, self._shard = blobs, build, wanted, planned.shard
        self._position = wanted.first
        self._sent_at = monotonic()

    async def pieces(self) -> AsyncIterator[bytes]:
        """What is wanted, from its start on. Raises CutShortError when the rest will not come."""
        while self._position < self._wanted.stop:
            changed, growing = self._build.changed, self._build.shards[self._shard]
            if growing.sha256 is not None:
                async for piece in self._rest(growing.sha256):
                    yield piece
                return
            if self._build.is_lost(self._wanted.composition.name):
                raise CutShortError
            if piece := await self._next(growing):
                yield piece
            else:
                await self._wait(changed)

    async def _next(self, growing: Growing) -> bytes:
        """As much as may be sent now: all but the reserve, and of that one byte when nothing was sent for long."""
        known = min(growing.known, self._wanted.stop)
        free = known if known == self._wanted.stop else known - RESERVE
        stop = min(free, self._position + PIECE_BYTES)
        if stop <= self._position and monotonic() - self._sent_at >= DRIP_S:
            stop = min(known, self._position + 1)
        if stop <= self._position:
            return b""
        piece = await run_in_threadpool(growing.read, self._position, stop)
        if not piece:
            raise CutShortError
        self._sent(piece)
        return piece

    async def _rest(self, sha256: str) -> AsyncIterator[bytes]:
        """From the blob that the shard has become."""
        try:
            pieces = await run_in_threadpool(self._blobs.read, sha256, self._position, self._wanted.stop)
            async for piece in iterate_in_threadpool(pieces):
                self._sent(piece)
                yield piece
        except NotFoundError:
            raise CutShortError from None

    async def _wait(self, changed: asyncio.Event) -> None:
        """Until something is new, or a byte is due."""
        due_s = max(self._sent_at + DRIP_S - monotonic(), SHORTEST_WAIT_S)
        try:
            await asyncio.wait_for(changed.wait(), due_s)
        except TimeoutError:
            return

    def _sent(self, piece: bytes) -> None:
        self._position += len(piece)
        self._sent_at = monotonic()
