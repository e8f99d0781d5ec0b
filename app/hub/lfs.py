"""Large files by the LFS protocol: ask where to send which, send them whole or in parts, fetch them by hash."""

from collections.abc import Iterator
from math import ceil
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import anyio
from anyio.to_thread import run_sync
from fastapi import Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from app.api.committing import refuse_computed
from app.api.receiving import join_parts, take_in, take_part
from app.api.services import Pot, Services
from app.api.serving import Served, serve
from app.hub.auth import Visitor, open_repo, publisher, writable_repo
from app.hub.bodies import HubBody, sent
from app.hub.errors import MissingEntryError
from app.hub.route import hub_router
from app.hub.signing import Ticket, redeem, sign
from app.names import check_sha256
from app.problems import NotReadyError, TooLargeError, status_of
from app.store.records import Token
from merge_core.errors import ConflictError, InputError, NotFoundError, StockpotError

router = hub_router()
ROOT = "/{namespace}/{name}.git/info/lfs"
MEDIA_TYPE = "application/vnd.git-lfs+json"
PURPOSE = "lfs"
CHUNK_BYTES = 64 << 20
MOST_PARTS = 200
"""In general: larger files come in larger parts."""
LASTS_S = 24 * 3600
MOST_OBJECTS = 1000
BATCH_BYTES = 4 << 20
PATIENCE_S = 8.0
"""Clients hang up after 10 s, and ask again what is not ready."""
LOOK_AGAIN_S = 0.1


class LargeFile(HubBody):
    """A file by its hash and size."""

    oid: str
    size: int = Field(ge=0, le=1 << 50)


class Batch(HubBody):
    """What a client is about to send or fetch."""

    operation: Literal["upload", "download"]
    transfers: list[str] = Field(["basic"], max_length=100)
    objects: list[LargeFile] = Field(max_length=MOST_OBJECTS)
    hash_algo: str = "sha256"


class SentPart(HubBody):
    """A part that was sent, with the entity tag of the answer to it."""

    number: int = Field(alias="partNumber")
    etag: str = Field(max_length=200)


class SentParts(HubBody):
    """All parts of a file."""

    oid: str
    parts: list[SentPart] = Field(max_length=100_000)


@router.post(f"{ROOT}/objects/batch")
def asked(
    request: Request,
    caller: Visitor,
    pot: Pot,
    namespace: str,
    name: str,
    batch: Annotated[Batch, Depends(sent(Batch, BATCH_BYTES))],
) -> Response:
    """Where to send each object, or nothing for those that are here and the caller's; or where to fetch them."""
    if batch.hash_algo != "sha256":
        raise InputError("no such hash", where="hash_algo", found=batch.hash_algo, expected="sha256")
    here = str(request.base_url) + f"{namespace}/{name}.git/info/lfs"
    if batch.operation == "download":
        repo = open_repo(pot, caller, namespace, name)
        listed = [_fetched(pot, repo.id, one, here) for one in batch.objects]
        return JSONResponse({"transfer": "basic", "objects": listed, "hash_algo": "sha256"}, media_type=MEDIA_TYPE)
    token = publisher(caller)
    repo = writable_repo(pot, token, namespace, name)
    refuse_computed(repo)
    in_parts = "multipart" in batch.transfers
    listed = [_wanted(pot, token, repo.full_name, one, here, in_parts) for one in batch.objects]
    pot.store.promise_blobs({str(one["oid"]) for one in listed if set(one) == {"oid", "size"}}, token)
    transfer = "multipart" if any("chunk_size" in _header(one) for one in listed) else "basic"
    return JSONResponse({"transfer": transfer, "objects": listed, "hash_algo": "sha256"}, media_type=MEDIA_TYPE)


def ticket_of(request: Request, pot: Pot, ticket: Annotated[str, Query(max_length=4000)]) -> Ticket:
    """The upload that an address was given out for; its token may have been revoked since, or its repo deleted."""
    found = redeem(request, pot, ticket, PURPOSE)
    namespace, _, name = found.text("repo").partition("/")
    refuse_computed(writable_repo(pot, found.token, namespace, name))
    return found


Upload = Annotated[Ticket, Depends(ticket_of)]


@router.put(f"{ROOT}/objects/upload")
async def received(request: Request, pot: Pot, upload: Upload) -> dict[str, Any]:
    """A whole file."""
    await take_in(request, pot, upload.token, upload.text("oid"), size=upload.number("size"))
    return {}


@router.put(f"{ROOT}/objects/part/{{number:int}}")
async def part_received(request: Request, pot: Pot, upload: Upload, number: int) -> Response:
    """A part; the first is 1."""
    size, chunk = upload.number("size"), upload.number("chunk")
    if not 1 <= number <= ceil(size / chunk):
        raise InputError("no such part", where="part", found=number, expected=f"1 to {ceil(size / chunk)}")
    start = (number - 1) * chunk
    await take_part(request, pot, upload.token, upload.text("oid"), size, start, min(start + chunk, size))
    return Response(headers={"ETag": f'"{_tag(upload, number)}"'})


@router.post(f"{ROOT}/objects/complete")
async def completed(
    pot: Pot, upload: Upload, sent_parts: Annotated[SentParts, Depends(sent(SentParts, BATCH_BYTES))]
) -> dict[str, Any]:
    """Join the parts. Asked again, it waits for the work that is under way, or says that it is done."""
    _check_parts(upload, sent_parts)
    deadline = anyio.current_time() + PATIENCE_S
    while not await run_sync(_joined, pot, upload):
        if anyio.current_time() > deadline:
            raise NotReadyError("the parts are still being joined", where="oid", found=upload.text("oid"))
        await anyio.sleep(LOOK_AGAIN_S)
    return {}


@router.post(f"{ROOT}/objects/verify")
def verified(pot: Pot, upload: Upload, file: Annotated[LargeFile, Depends(sent(LargeFile))]) -> dict[str, Any]:
    """Whether a file has arrived: an error when not."""
    oid, size = upload.text("oid"), upload.number("size")
    if (file.oid, file.size) != (oid, size) or not _is_here(pot, upload.token, file):
        raise NotFoundError("this file has not arrived", where="oid", found=file.oid, expected=f"{size} bytes of {oid}")
    return {}


@router.get(f"{ROOT}/objects/{{oid}}")
def fetched(caller: Visitor, pot: Pot, request: Request, namespace: str, name: str, oid: str) -> Response:
    """A file of any commit of the repo, by its hash."""
    repo = open_repo(pot, caller, namespace, name)
    digest = check_sha256(oid, "oid")
    size = pot.store.size_in_repo(repo.id, digest)
    if size is None:
        raise MissingEntryError(f"no such file in '{repo.full_name}'", where="oid", found=digest)
    return serve(request, Served(digest, pot.blobs, digest, size, repo.head or "", digest))


def _fetched(pot: Services, repo_id: int, file: LargeFile, here: str) -> dict[str, Any]:
    try:
        digest = check_sha256(file.oid, "oid")
        if pot.store.size_in_repo(repo_id, digest) != file.size:
            raise NotFoundError("no such file in this repo", where="oid", found=digest)
    except StockpotError as error:
        return _refused(file, error)
    return {"oid": digest, "size": file.size, "actions": {"download": {"href": f"{here}/objects/{digest}"}}}


def _wanted(pot: Services, token: Token, repo: str, file: LargeFile, here: str, in_parts: bool) -> dict[str, Any]:
    """An object of the answer: with nothing to do, with addresses, or with the reason why it is refused."""
    try:
        digest = check_sha256(file.oid, "oid")
        _check_size(pot, file)
    except StockpotError as error:
        return _refused(file, error)
    one: dict[str, Any] = {"oid": digest, "size": file.size}
    if _is_here(pot, token, LargeFile(oid=digest, size=file.size)):
        return one
    chunk = max(CHUNK_BYTES, ceil(file.size / MOST_PARTS))
    claims: dict[str, str | int] = {"repo": repo, "oid": digest, "size": file.size, "chunk": chunk}
    ticket = sign(pot, token, PURPOSE, claims, LASTS_S)
    actions = _in_parts(here, ticket, file.size, chunk) if in_parts and file.size > chunk else _whole(here, ticket)
    return {**one, "authenticated": True, "actions": {**actions, "verify": _action(here, "verify", ticket)}}


def _whole(here: str, ticket: str) -> dict[str, Any]:
    return {"upload": _action(here, "upload", ticket)}


def _in_parts(here: str, ticket: str, size: int, chunk: int) -> dict[str, Any]:
    parts = {f"{n:05d}": _address(here, f"part/{n}", ticket) for n in range(1, ceil(size / chunk) + 1)}
    return {"upload": {**_action(here, "complete", ticket), "header": {"chunk_size": str(chunk), **parts}}}


def _action(here: str, what: str, ticket: str) -> dict[str, Any]:
    return {"href": _address(here, what, ticket), "header": {}, "expires_in": LASTS_S}


def _address(here: str, what: str, ticket: str) -> str:
    """The ticket is in the query, which no log has."""
    return f"{here}/objects/{what}?{urlencode({'ticket': ticket})}"


def _header(one: dict[str, Any]) -> dict[str, Any]:
    header = one.get("actions", {}).get("upload", {}).get("header", {})
    assert isinstance(header, dict)
    return header


def _refused(file: LargeFile, error: StockpotError) -> dict[str, Any]:
    return {"oid": file.oid, "size": file.size, "error": {"code": int(status_of(error)), "message": str(error)}}


def _check_size(pot: Services, file: LargeFile) -> None:
    most = pot.settings.max_file_bytes
    if file.size > most:
        raise TooLargeError("the file is too large", where="size", found=file.size, expected=f"at most {most} bytes")


def _is_here(pot: Services, token: Token, file: LargeFile) -> bool:
    return pot.store.blob_size(file.oid) == file.size and pot.store.may_read_blob(token, file.oid)


def _joined(pot: Services, upload: Ticket) -> bool:
    """True once the parts are a blob; False while another request is at it, or writes a part."""
    oid, size = upload.text("oid"), upload.number("size")
    try:
        join_parts(pot, upload.token, oid, size)
    except ConflictError:
        return False
    except NotFoundError:
        if not pot.store.may_read_blob(upload.token, oid):
            raise
        return pot.store.blob_size(oid) == size
    return True


def _check_parts(upload: Ticket, completion: SentParts) -> None:
    """Raises InputError unless every part is named once, with its tag."""
    if completion.oid != upload.text("oid"):
        raise InputError("another file", where="oid", found=completion.oid, expected=upload.text("oid"))
    named = {part.number: part.etag.strip('"') for part in completion.parts}
    for number, tag in _tags(upload):
        if named.get(number) != tag:
            found = named.get(number, "no such part")
            raise InputError("a part has not been sent", where=f"part {number}", found=found, expected=tag)
    if len(completion.parts) != ceil(upload.number("size") / upload.number("chunk")):
        raise InputError("more parts than there are", where="parts", found=len(completion.parts))


def _tags(upload: Ticket) -> Iterator[tuple[int, str]]:
    count = ceil(upload.number("size") / upload.number("chunk"))
    return ((number, _tag(upload, number)) for number in range(1, count + 1))


def _tag(upload: Ticket, number: int) -> str:
    """What says that a part was received; that all are right is for the hash of the whole to say."""
    return f"{upload.text('oid')[:32]}-{number}"
