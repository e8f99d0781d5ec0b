"""Taking in a body as a blob: streamed to the disk, hashed on the way, in one go or in parts that resume."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from app.api.bodies import declared_length, read_limited, refuse_encoding
from app.api.services import Services
from app.names import check_sha256
from app.problems import TooLargeError
from app.store.records import Token
from app.store.uploads import Announce, Check, Upload
from merge_core.errors import ConflictError, FileError, InputError, MalformedError

PIECE_BYTES = 1 << 20
_SPAN = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Arrival:
    """What is here of a blob after a request; `received` < `size` while parts are still to come.

    `is_checked` when this request's `check` has looked at the bytes.
    """

    sha256: str
    size: int
    received: int
    is_checked: bool = False

    @property
    def complete(self) -> bool:
        return self.received == self.size


@dataclass(frozen=True, slots=True)
class Span:
    """A Content-Range: bytes `first` up to `stop` of `total`; `*` asks how far the upload is, first = stop = None."""

    first: int | None
    stop: int | None
    total: int


Admit = Callable[[], object]


def unchecked(path: Path) -> None:
    """Any file will do."""


def anybody() -> None:
    """Whoever has come this far."""


async def take_in(
    request: Request,
    pot: Services,
    owner: Token,
    sha256: str | None,
    check: Check = unchecked,
    size: int | None = None,
    admit: Admit = anybody,
) -> Arrival:
    """Stream the body into a blob that `owner` may then commit; `check` sees the complete file before it is one.

    `size` is what the whole must have, where that is known. `admit` may ask the database and refuses before a byte is
    kept, of a large body before it is read. Raises TooLargeError, FileError for another hash or length than announced,
    ConflictError for a part that does not follow the one before. What breaks off leaves nothing, except parts, which
    wait for the next.
    """
    refuse_encoding(request)
    span = content_span(request.headers)
    limit = pot.settings.max_file_bytes if size is None else size
    check_limit(span.total if span else declared_length(request) or 0, limit)
    length = declared_length(request) if size is None else size
    if span is None and length is not None and length <= PIECE_BYTES:
        body = await read_limited(request, min(limit, PIECE_BYTES))
        return await run_in_threadpool(_keep_small, pot, owner, body, sha256, length, check, admit)
    await run_in_threadpool(admit)
    if span is None:
        return await _streamed(request, pot, owner, sha256, limit, check, length)
    if sha256 is None:
        raise InputError(
            "an upload in parts needs its sha256", where="header X-Content-SHA256", expected="64 hex digits"
        )
    return await _part(request, pot, owner, sha256, span, check)


async def take_part(
    request: Request, pot: Services, owner: Token, sha256: str, size: int, start: int, stop: int
) -> None:
    """Stream the body into its place in an upload whose parts come in any order. FileError when it is too short."""
    refuse_encoding(request)
    check_limit(declared_length(request) or 0, stop - start)
    with await run_in_threadpool(pot.blobs.parts.open, owner.id, sha256, size, start, stop) as part:
        await pour(request, part.write, 0, stop - start)
        if part.missing:
            found = f"{stop - start - part.missing} bytes"
            raise FileError("the part is too short", where="body", found=found, expected=f"{stop - start} bytes")


def join_parts(pot: Services, owner: Token, sha256: str, size: int) -> None:
    """Make the parts of an upload a blob that `owner` may then commit: see `app.store.multipart`."""
    pot.blobs.parts.complete(owner.id, sha256, size, _announcing(pot, owner))
    pot.store.record_blob(sha256, size, owner)


def announced_sha256(header: str | None, query: str | None) -> str | None:
    """The sha256 that a request announces, by header or query."""
    values = {
        check_sha256(value, where)
        for value, where in ((header, "header X-Content-SHA256"), (query, "query sha256"))
        if value is not None
    }
    if len(values) > 1:
        raise InputError(
            "header and query announce different hashes", where="query sha256", found=query, expected=header
        )
    return next(iter(values), None)


def received_so_far(pot: Services, owner: Token, sha256: str) -> int:
    """Bytes here of an upload in parts; all of them when the caller may read the finished blob."""
    size = pot.store.blob_size(sha256)
    if size is not None and pot.store.may_read_blob(owner, sha256):
        return size
    return pot.blobs.received(owner.id, sha256)


def content_span(headers: Mapping[str, str]) -> Span | None:
    """The Content-Range of a part, None without one."""
    value = headers.get("content-range")
    if value is None:
        return None
    match = _SPAN.fullmatch(value.strip())
    if match is None:
        raise _bad_span(value)
    first, last, total = (None if group is None else int(group) for group in match.groups())
    assert total is not None
    if first is None or last is None:
        return Span(None, None, total)
    if not first <= last < total:
        raise _bad_span(value)
    return Span(first, last + 1, total)


async def _streamed(
    request: Request, pot: Services, owner: Token, sha256: str | None, limit: int, check: Check, length: int | None
) -> Arrival:
    with await run_in_threadpool(pot.blobs.open_upload, sha256, length) as upload:
        await pour(request, upload.write, 0, limit)
        found, size = await run_in_threadpool(upload.finish, check, _announcing(pot, owner))
    await run_in_threadpool(pot.store.record_blob, found, size, owner)
    return Arrival(found, size, size, is_checked=True)


def _keep_small(
    pot: Services, owner: Token, body: bytes, announced: str | None, length: int, check: Check, admit: Admit
) -> Arrival:
    """A body that was read whole. Bytes that are here, and that nobody wants to look at, are not written again."""
    admit()
    digest = hashlib.sha256(body).hexdigest()
    is_as_announced = announced in (None, digest) and len(body) == length
    if is_as_announced and check is unchecked and pot.store.promise_blob(digest, owner) and pot.blobs.exists(digest):
        return Arrival(digest, length, length)
    with pot.blobs.open_upload(announced, length) as upload:
        upload.write(body)
        found, size = upload.finish(check, _announcing(pot, owner))
    pot.store.record_blob(found, size, owner)
    return Arrival(found, size, size, is_checked=True)


async def _part(request: Request, pot: Services, owner: Token, sha256: str, span: Span, check: Check) -> Arrival:
    if span.first is None or span.stop is None:
        received = await run_in_threadpool(received_so_far, pot, owner, sha256)
        return Arrival(sha256, span.total, min(received, span.total))
    with await run_in_threadpool(pot.blobs.resume_upload, owner.id, sha256, span.total) as upload:
        _check_follows(upload, span.first)
        await pour(request, upload.write, upload.received, span.stop)
        received = upload.received
        if upload.complete:
            await run_in_threadpool(upload.finish, check, _announcing(pot, owner))
    if received == span.total:
        await run_in_threadpool(pot.store.record_blob, sha256, received, owner)
    return Arrival(sha256, span.total, received, is_checked=True)


def _announcing(pot: Services, owner: Token) -> Announce:
    return partial(pot.store.announce_blob, owner=owner)


async def pour(request: Request, write: Callable[[bytes], object], received: int, most: int) -> None:
    """Write the body in pieces large enough that changing threads costs nothing."""
    pending = bytearray()
    async for chunk in request.stream():
        pending += chunk
        check_limit(received + len(pending), most)
        if len(pending) >= PIECE_BYTES:
            await run_in_threadpool(write, bytes(pending))
            received += len(pending)
            pending.clear()
    if pending:
        await run_in_threadpool(write, bytes(pending))


def _check_follows(upload: Upload, first: int) -> None:
    if first != upload.received:
        raise ConflictError(
            "this part does not follow what is here",
            where="header Content-Range",
            found=f"bytes from {first}",
            expected=f"bytes from {upload.received}",
        )


def check_limit(size: int, most: int) -> None:
    """Raises TooLargeError for a body above `most` bytes."""
    if size > most:
        raise TooLargeError(
            "the body is too large", where="body", found=f"at least {size} bytes", expected=f"at most {most}"
        )


def _bad_span(value: str) -> MalformedError:
    expected = "bytes first-last/total, or bytes */total to ask how far the upload is"
    return MalformedError("not a range of a body", where="header Content-Range", found=repr(value), expected=expected)
