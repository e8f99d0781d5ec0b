"""A job's events as server-sent events: those after Last-Event-ID, then each as it happens, until the job is over."""

from collections.abc import AsyncIterator
from typing import Annotated

import anyio
from fastapi import Header
from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from app.store.records import Event
from app.store.store import Store

POLL_S = 0.2
LastEventId = Annotated[
    int | None, Header(ge=0, lt=2**63, alias="Last-Event-ID", description="the last event that was received")
]


async def follow(store: Store, job_id: str, last_event_id: int | None) -> AsyncIterator[ServerSentEvent]:
    """The events after `last_event_id` in order, ending after the last one of a job that is over."""
    last = last_event_id or 0
    while True:
        # The state is read before the events: an event that ends the job cannot slip between the two.
        is_open = await run_in_threadpool(_is_open, store, job_id)
        events = await run_in_threadpool(store.events_since, job_id, last)
        for event in events:
            yield _sent(event)
            last = event.id
        if not is_open and not events:
            return
        await anyio.sleep(POLL_S if is_open else 0)


def _is_open(store: Store, job_id: str) -> bool:
    job = store.get_job(job_id)
    return job is not None and job.is_open


def _sent(event: Event) -> ServerSentEvent:
    data = {**event.data, "at": event.created_at.isoformat()}
    return ServerSentEvent(id=str(event.id), event=event.kind, data=data)
