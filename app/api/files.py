"""Files of repos: publish one with one PUT, or in parts; download with ranges."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from app.api.auth import Reader, Writer, check_write, readable_repo
from app.api.receiving import Arrival, announced_sha256, received_so_far, take_in
from app.api.repos import Revision, commit_files, open_repo
from app.api.services import Pot, Services, services_of
from app.api.serving import Served, serve
from app.api.shapes import Received, Stored, Written
from app.names import check_name, check_path, check_revision, check_sha256
from app.store.records import FileEntry, Repo, Token
from app.store.resolve import check_gate
from app.store.revisions import MAIN
from merge_core.errors import NotFoundError, nearest
from merge_core.formats import check_file

router = APIRouter(prefix="/v1/repos/{namespace}/{name}", tags=["files"])

BYTES: dict[str, Any] = {
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        }
    }
}
Announced = Annotated[
    str | None, Header(alias="X-Content-SHA256", description="refuse the body when its hash is another")
]
AnnouncedInQuery = Annotated[str | None, Query(alias="sha256", description="the same, for clients without headers")]
ContentRange = Annotated[
    str | None, Header(alias="Content-Range", description="`bytes first-last/total`: one part; `bytes */total` asks")
]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a body goes, once it is known that the caller may put it there."""

    full_name: str
    token: Token
    admit: Callable[[], Repo | None]


async def writable(request: Request, token: Writer, namespace: str, name: str) -> Target:
    """Raises before a byte of the body is read; whether the repo takes files is for `admit` to say."""
    check_write(token, check_name(namespace, "path namespace"))
    full_name = f"{namespace}/{check_name(name, 'path name')}"
    return Target(full_name, token, partial(open_repo, services_of(request), namespace, name))


WritableRepo = Annotated[Target, Depends(writable)]


async def safe_path(path: str) -> str:
    """The file's path in the repo."""
    return check_path(path, "path path")


SafePath = Annotated[str, Depends(safe_path)]


async def arrived_file(
    request: Request,
    target: WritableRepo,
    path: SafePath,
    header: Announced = None,
    query: AnnouncedInQuery = None,
    content_range: ContentRange = None,
) -> Arrival:
    """The body, in its blob."""
    announced, check = announced_sha256(header, query), partial(check_file, path)
    return await take_in(request, services_of(request), target.token, announced, check, admit=target.admit)


async def arrived_blob(
    request: Request, target: WritableRepo, sha256: str, content_range: ContentRange = None
) -> Arrival:
    """The body, in the blob that the path names."""
    digest = check_sha256(sha256, "path sha256")
    return await take_in(request, services_of(request), target.token, digest, admit=target.admit)


@router.put(
    "/files/{path:path}",
    status_code=201,
    summary="Publish a file",
    responses={
        200: {"model": Written, "description": "The repo has this file already: no new commit"},
        202: {"model": Received, "description": "A part has arrived, more are to come"},
    },
    **BYTES,
)
def published(
    pot: Pot,
    target: WritableRepo,
    path: SafePath,
    arrival: Annotated[Arrival, Depends(arrived_file)],
    response: Response,
    message: Annotated[str | None, Query(max_length=4000, description="of the commit")] = None,
) -> Written | Received:
    """The body is the file; the repo is created when there is none. Announce a sha256 to have it checked.

    In parts: send each with Content-Range and the whole file's sha256; `uploads/{sha256}` says where to go on.
    """
    if not arrival.complete:
        response.status_code = 202
        return Received(sha256=arrival.sha256, received=arrival.received)
    if not arrival.is_checked:
        check_file(path, pot.blobs.local_path(arrival.sha256))
    changes: dict[str, FileEntry | None] = {path: FileEntry(path, arrival.sha256, arrival.size)}
    commit, is_new = commit_files(pot, target.token, target.full_name, changes, message or f"Upload {path}")
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/repos/{target.full_name}"
    return Written(path=path, sha256=arrival.sha256, size=arrival.size, commit=commit.id)


@router.put(
    "/blobs/{sha256}",
    status_code=201,
    summary="Send a file's bytes without a commit",
    responses={202: {"model": Received, "description": "A part has arrived, more are to come"}},
    **BYTES,
)
async def stored(arrival: Annotated[Arrival, Depends(arrived_blob)], response: Response) -> Stored | Received:
    """For a commit of several files. In parts as with `files/{path}`."""
    if arrival.complete:
        return Stored(sha256=arrival.sha256, size=arrival.size)
    response.status_code = 202
    return Received(sha256=arrival.sha256, received=arrival.received)


@router.get("/uploads/{sha256}", summary="How far is an upload in parts")
def upload(pot: Pot, target: WritableRepo, sha256: str) -> Received:
    """Bytes received of the caller's own upload; the whole size when the blob is here and the caller's to read."""
    target.admit()
    digest = check_sha256(sha256, "path sha256")
    return Received(sha256=digest, received=received_so_far(pot, target.token, digest))


@router.head("/files/{path:path}", include_in_schema=False)
@router.get("/files/{path:path}", summary="Download a file", response_class=Response)
def downloaded(
    token: Reader, pot: Pot, namespace: str, name: str, path: SafePath, request: Request, revision: Revision = MAIN
) -> Response:
    """Range, If-None-Match and If-Range are honoured; the ETag is the sha256."""
    repo = readable_repo(pot, token, namespace, name)
    return file_response(pot, token, request, repo, path, check_revision(revision))


def file_response(pot: Services, token: Token, request: Request, repo: Repo, path: str, revision: str) -> Response:
    """A file of a revision as a response. Raises NotFoundError, with the nearest paths."""
    check_gate(token, repo, f"repo '{repo.full_name}'")
    commit = pot.store.resolve_revision(repo, revision)
    entries = {entry.path: entry for entry in pot.store.tree(commit)}
    entry = entries.get(path)
    if entry is None:
        raise NotFoundError(
            f"no such file in '{repo.full_name}'", where="path", found=repr(path), expected=nearest(path, entries)
        )
    return serve(request, Served(path, pot.blobs, entry.sha256, entry.size, commit.id))
