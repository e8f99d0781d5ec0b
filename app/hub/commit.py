"""Commits as Hub clients send them: a line for each file, read as they come."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool

from app.api.bodies import declared_length, refuse_encoding
from app.api.committing import commit_changes, propose_changes, refuse_computed
from app.api.services import Pot
from app.hub.auth import Publisher, writable_repo
from app.hub.errors import MissingEntryError, MissingRevisionError
from app.hub.oids import LARGE_BYTES
from app.hub.operations import Draft
from app.hub.route import hub_router
from app.hub.snapshots import open_snapshot
from app.problems import TooLargeError
from app.store.commits import NO_COMMIT
from app.store.records import Repo
from merge_core.errors import InputError, NotFoundError, nearest

router = hub_router()
LONGEST_LINE = LARGE_BYTES * 4 // 3 + (64 << 10)
"""What is larger is not sent inside a commit."""
MOST_BYTES = 2 << 30
MOST_LINES = 25_001
NO_FILE = "A file with this name doesn't exist"
"""Words by which clients know that they may have mistaken a folder for a file."""


def target(caller: Publisher, pot: Pot, namespace: str, name: str) -> Repo:
    """The repo that files are put into."""
    repo = writable_repo(pot, caller, namespace, name)
    refuse_computed(repo)
    return repo


@router.post("/api/models/{namespace}/{name}/commit/{revision:quoted}")
async def committed(
    request: Request,
    caller: Publisher,
    pot: Pot,
    namespace: str,
    name: str,
    revision: str,
    create_pr: Annotated[bool, Query()] = False,
) -> dict[str, Any]:
    """All of it or nothing; the head as it is where nothing changes. The files are looked at later, by a job."""
    draft = Draft(pot, caller, await run_in_threadpool(target, caller, pot, namespace, name), revision)
    async for line in _lines(request):
        await run_in_threadpool(draft.take, line)
    return await run_in_threadpool(_kept, str(request.base_url), draft, create_pr)


def _kept(base_url: str, draft: Draft, create_pr: bool) -> dict[str, Any]:
    """Commit what was drafted."""
    header, repo, changes = draft.header, draft.repo, draft.changes()
    if header is None:
        raise InputError("a commit begins with its header", where="line 1", found="nothing")
    page = f"{base_url}{repo.full_name}"
    # A pull request begins where the client says that it built on; a commit has to be on the newest.
    start = header.parent if create_pr and header.parent not in (None, NO_COMMIT) else draft.revision
    _check_deletions(draft, start)
    try:
        if create_pr:
            pull, commit = propose_changes(draft.pot, draft.caller, repo, changes, header.message, start)
            return {**_told(page, commit.id), "pullRequestUrl": f"{page}/discussions/{pull.name}"}
        commit, _ = commit_changes(
            draft.pot, draft.caller, repo, changes, header.message, header.parent, draft.revision
        )
    except NotFoundError as error:
        if error.where in ("branch", "revision"):
            raise MissingRevisionError(error.message, where=error.where, found=error.found) from None
        raise
    return _told(page, commit.id)


def _told(page: str, commit: str) -> dict[str, Any]:
    return {"success": True, "commitOid": commit, "commitUrl": f"{page}/commit/{commit}", "hookOutput": ""}


def _check_deletions(draft: Draft, revision: str) -> None:
    """Raises what clients understand for a file or a folder to delete that is not there."""
    gone = [path for path, entry in draft.changes().items() if entry is None]
    if not gone:
        return
    snapshot = open_snapshot(draft.pot, draft.repo, revision)
    for path in gone:
        if not (path in snapshot.files or (path.endswith("/") and any(f.startswith(path) for f in snapshot.files))):
            error = MissingEntryError(NO_FILE, where="path", found=path, expected=nearest(path, snapshot.files))
            error.commit = snapshot.commit
            raise error


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """The body's lines that say something. Raises TooLargeError for one that is too long, or too many."""
    refuse_encoding(request)
    _check(declared_length(request) or 0, MOST_BYTES, "bytes")
    pending, received, count = bytearray(), 0, 0
    async for chunk in request.stream():
        received += len(chunk)
        _check(received, MOST_BYTES, "bytes")
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            line = bytes(pending + end)
            pending.clear()
            if line.strip():
                count += 1
                _check(count, MOST_LINES, "lines")
                yield line
        pending += rest
        _check(len(pending), LONGEST_LINE, "bytes in one line")
    if pending.strip():
        _check(count + 1, MOST_LINES, "lines")
        yield bytes(pending)


def _check(found: int, most: int, what: str) -> None:
    if found > most:
        raise TooLargeError(
            "the commit is too large", where="body", found=f"{found} {what}", expected=f"at most {most}"
        )
