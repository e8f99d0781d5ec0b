"""Doing a job: take the lease, do the work, say in SQL what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import structlog

from app.jobs.lease import Lease
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.job_rows import LeaseLostError
from app.store.records import Job
from app.store.store import Store
from merge_core.errors import CancelledError, NotFoundError, StockpotError

log = structlog.get_logger("stockpot.job")


@dataclass(frozen=True, slots=True)
class Work:
    """A job that is ours, and what is needed to do it."""

    settings: Settings
    store: Store
    blobs: Blobs
    lease: Lease

    @property
    def job(self) -> Job:
        return self.lease.job


# By name: an API process queues jobs without loading what merging needs.
HANDLERS: Mapping[str, tuple[str, str]] = {
    "shard": ("app.jobs.build", "build_shard"),
    "composition": ("app.jobs.build", "finish_composition"),
    "ingest": ("app.jobs.ingest", "ingest"),
    "pull": ("app.jobs.pulling", "pull_repo"),
    "pack": ("app.jobs.packing", "pack_files"),
}


def take(settings: Settings, store: Store, job_id: str, *, takeover: bool = True) -> Work | None:
    """The job with its lease, or None when it is over, or waits for others, or does not exist.

    With `takeover` also one that another process is at: the queue says that it is gone.
    """
    token = store.claim(job_id, takeover=takeover)
    job = store.get_job(job_id)
    return None if token is None or job is None else _work(settings, store, job, token)


def _work(settings: Settings, store: Store, job: Job, token: str) -> Work:
    return Work(settings, store, Blobs(settings, holds=True), Lease(store, job, token))


def do(work: Work) -> None:
    """Do the job and say in SQL what came of it. Raises what is not the job's fault, or is a bug."""
    try:
        _handler(work.job.kind)(work)
    except (LeaseLostError, CancelledError):
        log.info("the job has moved on without this process", job=work.job.id)
    except StockpotError as error:
        fail(work, error_document(error))


def fail(work: Work, error: Mapping[str, Any]) -> None:
    """End the job with this error, if it is still ours to end."""
    try:
        work.store.fail(work.job.id, work.lease.token, error)
    except LeaseLostError:
        log.info("the job has moved on without this process", job=work.job.id)


def error_document(error: StockpotError) -> dict[str, Any]:
    """An error as it is kept in SQL, its parts as text."""
    parts = {"where": error.where, "found": error.found, "expected": error.expected}
    texts = {name: str(value) for name, value in parts.items() if value is not None}
    return {"type": type(error).__name__, "message": error.message, **texts}


def _handler(kind: str) -> Callable[[Work], None]:
    if kind not in HANDLERS:
        raise NotFoundError("no worker knows this kind of job", where="kind", found=kind)
    module, name = HANDLERS[kind]
    handler: Callable[[Work], None] = getattr(import_module(module), name)
    return handler
