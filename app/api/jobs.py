"""Asynchronous work: list, look, follow, cancel."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.auth import Reader, Writer, check_write
from app.api.events import LastEventId, follow
from app.api.paging import Cursor, Limit
from app.api.services import Pot, Services
from app.api.shapes import JobShape, Listing
from app.store.records import Job, JobState, Token
from merge_core.errors import NotFoundError

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])


@router.get("", summary="List the jobs of repos that the caller may read")
def listed(
    token: Reader,
    pot: Pot,
    kind: str | None = None,
    state: JobState | None = None,
    repo: str | None = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listing[JobShape]:
    """The newest first; a composition is one job, its shards are not listed."""
    page = pot.store.list_jobs(token, kind=kind, state=state, repo=repo, limit=limit, cursor=cursor)
    return Listing(items=[JobShape.of(job) for job in page.items], next_cursor=page.next_cursor)


def readable_job(token: Reader, pot: Pot, job_id: str) -> Job:
    """The job; raises the same NotFoundError whether it does not exist or is hidden from the caller."""
    return _visible(pot, token, job_id)


Readable = Annotated[Job, Depends(readable_job)]


@router.get("/{job_id}", summary="One job")
def shown(job: Readable) -> JobShape:
    """Its state, how far it is in bytes, and what came of it."""
    return JobShape.of(job)


@router.get("/{job_id}/events", response_class=EventSourceResponse, summary="Follow a job")
async def events(job: Readable, pot: Pot, last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events until the job is over; a client that reconnects sends Last-Event-ID and misses none."""
    async for event in follow(pot.store, job.id, last_event_id):
        yield event


@router.post("/{job_id}/cancel", status_code=202, summary="Cancel a job")
def cancelled(token: Writer, pot: Pot, job_id: str) -> JobShape:
    """Takes effect within a second; nothing changes when the job is over."""
    return JobShape.of(cancel(pot, token, job_id))


def cancel(pot: Services, token: Token, job_id: str) -> Job:
    """Cancel the job on behalf of `token`; the job as it then is."""
    job = _visible(pot, token, job_id)
    check_write(token, job.repo.partition("/")[0])
    pot.jobs.cancel(job.id)
    return _visible(pot, token, job_id)


def _visible(pot: Services, token: Token, job_id: str) -> Job:
    job = pot.store.get_job(job_id)
    if job is None or not pot.store.may_see_job(token, job_id):
        raise NotFoundError("no such job", where=f"job '{job_id}'")
    return job
