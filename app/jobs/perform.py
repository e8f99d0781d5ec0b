"""What the process of a job runs: take the lease, do the work, say in SQL what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

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
}


def perform(job_id: str) -> None:
    """Do the job, unless it is over, or is not ready, or was taken over: then nothing happens.

    Raises only what a later attempt may get past: the database or the disk being away.
    """
    settings = Settings.from_environment()
    store = Store(settings.database_url)
    try:
        _perform(settings, store, job_id)
    finally:
        store.close()


def _perform(settings: Settings, store: Store, job_id: str) -> None:
    token = store.claim(job_id)
    job = store.get_job(job_id)
    if token is None or job is None:
        return
    work = Work(settings, store, Blobs(settings), Lease(store, job, token))
    try:
        _handler(job.kind)(work)
    except (LeaseLostError, CancelledError):
        log.info("the job has moved on without this process", job=job.id)
    except StockpotError as error:
        _fail(work, error_document(error))
    except (OperationalError, RedisError):
        raise
    except Exception as error:  # the outermost loop of a worker: whatever it is, the job must not hang
        log.exception("the job broke", job=job.id)
        _fail(work, {"type": "Internal", "message": f"something broke inside the service: {type(error).__name__}"})


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


def _fail(work: Work, error: Mapping[str, Any]) -> None:
    try:
        work.store.fail(work.job.id, work.lease.token, error)
    except LeaseLostError:
        log.info("the job has moved on without this process", job=work.job.id)
