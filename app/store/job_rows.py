"""Changes to job rows inside a transaction. A family is a finaliser and its shards, locked as one.

Every change of a family first locks the row of its oldest member: two that took their rows in different orders
would wait for each other for ever, and an event with a smaller id could become visible after a larger one.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from app.store.records import OPEN_STATES, Job, JobState, Json
from app.store.subject import new_id, now
from app.store.tables import compositions, events, jobs
from merge_core.errors import ConflictError, NotFoundError

PROGRESS = "progress"
LEASE_COLUMNS = ("token", "leased_at", "ready", "place")

_ADDED = insert(jobs).returning(jobs)
_TOLD = insert(events)
_ONE = select(jobs).where(jobs.c.id == bindparam("job"))
_member = jobs.alias()
_PARENT = select(_member.c.parent_id).where(_member.c.id == bindparam("job")).scalar_subquery()
_LOCKED_ROOT = select(jobs).where(jobs.c.id == func.coalesce(_PARENT, bindparam("job"))).with_for_update()
_STARTED = update(jobs).where(jobs.c.id == bindparam("job"), jobs.c.state == "queued")
_BEGUN = update(compositions).where(compositions.c.job_id == bindparam("job"), compositions.c.state == "queued")
_SETTLED = update(jobs).where(jobs.c.id == bindparam("job"), jobs.c.token == bindparam("lease"))


class LeaseLostError(ConflictError):
    """The job was cancelled, finished or taken over: what this process made of it does not count."""


def insert_job(
    connection: Connection,
    kind: str,
    subject_id: str,
    repo: str,
    payload: Json,
    *,
    parent_id: str | None = None,
    total: int = 0,
    state: JobState = "queued",
) -> Job:
    """A job that waits to be done, or for somebody who wants it, its first event with it."""
    row: dict[str, Any] = {"id": new_id(), "kind": kind, "subject_id": subject_id, "repo": repo, "parent_id": parent_id}
    row |= {"state": state, "payload": dict(payload), "done": 0, "total": total, "attempts": 0, "crashes": 0}
    inserted = connection.execute(_ADDED, {**row, "created_at": now()}).one()
    append_event(connection, row["id"], state, {})
    return job_of(inserted)


def lock_family(connection: Connection, job_id: str) -> Row[Any]:
    """The job's row as it is once nobody else can change it or its family. Raises NotFoundError."""
    root = connection.execute(_LOCKED_ROOT, {"job": job_id}).one_or_none()
    if root is None:
        raise NotFoundError("no such job", where="job", found=job_id)
    return root if root.id == job_id else connection.execute(_ONE, {"job": job_id}).one()


def make_due(connection: Connection, root_id: str) -> None:
    """Let workers have a planned job and its shards, and its composition with them."""
    family = ((jobs.c.id == root_id) | (jobs.c.parent_id == root_id)) & (jobs.c.state == "planned")
    for job_id in connection.execute(select(jobs.c.id).where(family)).scalars().all():
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(state="queued"))
        append_event(connection, job_id, "queued", {})
    planned = (compositions.c.job_id == root_id) & (compositions.c.state == "planned")
    connection.execute(update(compositions).where(planned).values(state="queued"))


def start_root(connection: Connection, root_id: str) -> None:
    """A finaliser counts as running once its first shard does, and so does its composition."""
    if connection.execute(_STARTED, {"job": root_id, "state": "running", "started_at": now()}).rowcount:
        append_event(connection, root_id, "running", {})
    connection.execute(_BEGUN, {"job": root_id, "state": "running"})


def settle(connection: Connection, job_id: str, token: str, state: JobState, **values: Any) -> None:
    """End the job, if `token` still holds its lease; LeaseLostError undoes the transaction otherwise."""
    changed = {"state": state, "token": None, "finished_at": now(), **values}
    if not connection.execute(_SETTLED, {"job": job_id, "lease": token, **changed}).rowcount:
        raise LeaseLostError("this job has moved on without this process", where="job", found=job_id)
    append_event(connection, job_id, state, values.get("error") or {})


def settle_family(connection: Connection, root_id: str, state: JobState, error: Json | None) -> None:
    """End a job from outside, whoever holds its lease; its shards are cancelled, its composition ends likewise."""
    moment = now()
    family = (jobs.c.id == root_id) | (jobs.c.parent_id == root_id)
    still_open = select(jobs.c.id).where(family, jobs.c.state.in_(OPEN_STATES))
    for job_id in connection.execute(still_open).scalars().all():
        values: dict[str, Any] = {
            "state": state if job_id == root_id else "cancelled",
            "token": None,
            "finished_at": moment,
        }
        values |= {"error": error} if job_id == root_id else {}
        connection.execute(update(jobs).where(jobs.c.id == job_id).values(values))
        append_event(connection, job_id, str(values["state"]), (error or {}) if job_id == root_id else {})
    ended = {"state": state, "error": error, "finished_at": moment}
    owned = (compositions.c.job_id == root_id) & compositions.c.state.in_(OPEN_STATES)
    connection.execute(update(compositions).where(owned).values(ended))


def add_up(connection: Connection, job_id: str) -> None:
    """Set the job's counts to the sums over its shards, and tell its followers."""
    sums = select(func.sum(jobs.c.done).label("done"), func.sum(jobs.c.total).label("total"))
    row = connection.execute(sums.where(jobs.c.parent_id == job_id)).one()
    counts = {"done": int(row.done), "total": int(row.total)}
    connection.execute(update(jobs).where(jobs.c.id == job_id).values(counts))
    tell_progress(connection, job_id, counts)


def tell_progress(connection: Connection, job_id: str, counts: Mapping[str, int]) -> None:
    """A progress event in place of the one before: a long job leaves one row, not thousands."""
    connection.execute(delete(events).where(events.c.job_id == job_id, events.c.kind == PROGRESS))
    append_event(connection, job_id, PROGRESS, counts)


def append_event(connection: Connection, job_id: str, kind: str, data: Mapping[str, Any]) -> None:
    """Tell the job's followers, when the transaction commits."""
    connection.execute(_TOLD, {"job_id": job_id, "kind": kind, "data": dict(data), "created_at": now()})


def job_of(row: Row[Any]) -> Job:
    """The record of a row."""
    return Job(**{name: value for name, value in row._mapping.items() if name not in LEASE_COLUMNS})
