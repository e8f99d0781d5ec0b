"""Jobs: the record of what is to be done, by whom it is being done, and what came of it."""

from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta

from sqlalchemy import ColumnElement, and_, bindparam, exists, select, true, update

from app.store.job_rows import (
    LeaseLostError,
    add_up,
    append_event,
    insert_job,
    job_of,
    lock_family,
    settle,
    settle_family,
    start_root,
    tell_progress,
)
from app.store.positions import after_newest, cursor_of
from app.store.records import ANY_NAMESPACE, DUE_STATES, OPEN_STATES, Event, Job, Json, Page, Ready, Token
from app.store.repos import visible_to
from app.store.subject import Subject, new_id, now
from app.store.tables import events, jobs, repos

MOST_CRASHES = 3
OVERDUE = {"type": "CapacityError", "message": "the job took longer than the service allows"}

_ONE = select(jobs).where(jobs.c.id == bindparam("job"))
_CHANGED = update(jobs).where(jobs.c.id == bindparam("job"))
_WAITS = select(exists().where(jobs.c.parent_id == bindparam("job"), jobs.c.state != "done"))


class JobRecords(Subject):
    """Jobs and their events. Whoever works on one holds a token; what is done without a valid one does not count."""

    def create_job(self, kind: str, subject_id: str, payload: Json, *, repo: str = "") -> Job:
        """A queued job; an open one of the same kind and subject is returned in its place."""
        same = (jobs.c.kind == kind, jobs.c.subject_id == subject_id, jobs.c.state == "queued")
        with self._database.write() as connection:
            row = connection.execute(select(jobs).where(*same)).first()
            return job_of(row) if row else insert_job(connection, kind, subject_id, repo, payload)

    def get_job(self, job_id: str) -> Job | None:
        """The job, whoever asks."""
        with self._database.read() as connection:
            row = connection.execute(_ONE, {"job": job_id}).one_or_none()
            return None if row is None else job_of(row)

    def list_jobs(
        self,
        caller: Token | None,
        *,
        kind: str | None = None,
        state: str | None = None,
        repo: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Job]:
        """Jobs of repos the caller may read, the newest first, shards left out."""
        query = select(jobs).where(jobs.c.parent_id.is_(None), _may_see(caller))
        for column, wanted in ((jobs.c.kind, kind), (jobs.c.state, state), (jobs.c.repo, repo)):
            query = query if wanted is None else query.where(column == wanted)
        query = after_newest(query, jobs, cursor).limit(limit + 1)
        with self._database.read() as connection:
            found = [job_of(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), cursor_of(found[limit - 1]) if len(found) > limit else None)

    def may_see_job(self, caller: Token | None, job_id: str) -> bool:
        """True when the job exists and its repo is one the caller may read."""
        with self._database.read() as connection:
            return (
                connection.execute(select(jobs.c.id).where(jobs.c.id == job_id, _may_see(caller))).first() is not None
            )

    def shards_of(self, job_id: str) -> list[Job]:
        """The jobs that this one waits for, in order."""
        with self._database.read() as connection:
            found = [job_of(row) for row in connection.execute(select(jobs).where(jobs.c.parent_id == job_id))]
        return sorted(found, key=lambda job: int(job.payload["shard"]))

    def claim(self, job_id: str, *, takeover: bool = True) -> str | None:
        """The lease: a fencing token, which makes all earlier ones worthless. None when there is nothing to do.

        That is when the job is over, or waits for shards that are not done; without `takeover` also when it runs.
        """
        states = DUE_STATES if takeover else ("queued",)
        with self._database.write(lasting=False) as connection:
            row = lock_family(connection, job_id)
            if row.state not in states or connection.execute(_WAITS, {"job": job_id}).scalar_one():
                return None
            token, moment = new_id(), now()
            values = {"token": token, "state": "running", "attempts": row.attempts + 1, "leased_at": moment}
            values |= {"started_at": row.started_at or moment, "ready": 0, "place": None}
            connection.execute(_CHANGED, {"job": job_id, **values})
            append_event(connection, job_id, "running", {"attempt": row.attempts + 1})
            start_root(connection, row.parent_id or job_id)
            return token

    def holds(self, job_id: str, token: str) -> bool:
        """True while this token is the job's lease: false after a cancel or a takeover."""
        with self._database.read() as connection:
            query = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.token == token)
            return connection.execute(query).first() is not None

    def progress(self, job_id: str, token: str, done: int, total: int, ready: Ready | None = None) -> None:
        """Tell how far the job is, in bytes, and what can be read of its file."""
        counts = {"done": done, "total": total}
        grown = {} if ready is None else {"ready": ready.nbytes, "place": ready.place}
        with self._database.write(lasting=False) as connection:
            row = lock_family(connection, job_id)
            if row.token != token:
                raise LeaseLostError("this job has moved on without this process", where="job", found=job_id)
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(counts | grown))
            if row.parent_id:
                add_up(connection, row.parent_id)
            else:
                tell_progress(connection, job_id, counts)

    def finish(self, job_id: str, token: str, result: Json) -> None:
        """The job is done. Raises LeaseLostError when it is no longer this process's to finish."""
        with self._database.write() as connection:
            row = lock_family(connection, job_id)
            settle(connection, job_id, token, "done", result=dict(result), done=row.total)
            if row.parent_id:
                add_up(connection, row.parent_id)

    def fail(self, job_id: str, token: str, error: Json) -> None:
        """The job cannot be done. A shard's failure ends its whole family, and the composition, with its cause."""
        with self._database.write() as connection:
            row = lock_family(connection, job_id)
            settle(connection, job_id, token, "failed", error=dict(error))
            settle_family(connection, row.parent_id or job_id, "failed", dict(error))

    def request_cancel(self, job_id: str) -> list[str]:
        """Cancel the job and its family at once: leases are void, so a process still at it commits nothing.

        Returns the ids that were open, whose processes are to be stopped; none when all was over already.
        """
        with self._database.write() as connection:
            row = lock_family(connection, job_id)
            root = row.parent_id or job_id
            family = ((jobs.c.id == root) | (jobs.c.parent_id == root)) & jobs.c.state.in_(OPEN_STATES)
            ids = list(connection.execute(select(jobs.c.id).where(family)).scalars())
            settle_family(connection, root, "cancelled", None)
            return ids

    def requeue(self, job_id: str) -> None:
        """Take the lease from a process that is gone."""
        with self._database.write() as connection:
            row = lock_family(connection, job_id)
            if row.state == "running":
                connection.execute(update(jobs).where(jobs.c.id == job_id).values(state="queued", token=None))
                append_event(connection, job_id, "requeued", {"attempt": row.attempts})

    def count_crash(self, job_id: str, cause: str) -> None:
        """The job's process died by itself. The third time the job fails: it would take down every worker."""
        with self._database.write() as connection:
            row = lock_family(connection, job_id)
            if row.state != "running":
                return
            if row.crashes + 1 >= MOST_CRASHES:
                error = {"type": "CapacityError", "message": f"{cause}, {MOST_CRASHES} times; out of memory?"}
                settle(connection, job_id, row.token, "failed", error=error)
                settle_family(connection, row.parent_id or job_id, "failed", error)
                return
            again = {"crashes": row.crashes + 1, "state": "queued", "token": None}
            connection.execute(update(jobs).where(jobs.c.id == job_id).values(again))
            append_event(connection, job_id, "requeued", {"attempt": row.attempts, "cause": cause})

    def fail_overdue(self, deadline_s: float) -> list[str]:
        """Fail what has been running for longer than this; the ids of those jobs."""
        late = select(jobs.c.id, jobs.c.token).where(
            jobs.c.token.is_not(None), jobs.c.leased_at < now() - timedelta(seconds=deadline_s)
        )
        with self._database.read() as connection:
            found = list(connection.execute(late))
        for row in found:
            with suppress(LeaseLostError):  # it has ended since
                self.fail(row.id, row.token, OVERDUE)
        return [row.id for row in found]

    def states_of(self, job_ids: Collection[str]) -> dict[str, str]:
        """The states of those jobs that exist."""
        with self._database.read() as connection:
            found = connection.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(job_ids)))
            return {row.id: row.state for row in found}

    def queued_jobs(self, kind: str, limit: int) -> list[str]:
        """Jobs of a kind that wait, the oldest first; their ids."""
        query = select(jobs.c.id).where(jobs.c.kind == kind, jobs.c.state == "queued")
        with self._database.read() as connection:
            return list(connection.execute(query.order_by(jobs.c.created_at, jobs.c.id).limit(limit)).scalars())

    def due_jobs(self) -> list[Job]:
        """What is queued or running, the oldest first."""
        query = select(jobs).where(jobs.c.state.in_(DUE_STATES)).order_by(jobs.c.created_at, jobs.c.id)
        with self._database.read() as connection:
            return [job_of(row) for row in connection.execute(query)]

    def events_since(self, job_id: str, last_event_id: int = 0) -> list[Event]:
        """What happened to the job after that event, in order. Of its progress only the newest is kept."""
        query = select(events).where(events.c.job_id == job_id, events.c.id > last_event_id).order_by(events.c.id)
        with self._database.read() as connection:
            return [Event(r.id, r.job_id, r.kind, r.data, r.created_at) for r in connection.execute(query)]


def _may_see(caller: Token | None) -> ColumnElement[bool]:
    if caller is not None and ANY_NAMESPACE in caller.namespaces:
        return true()
    same_repo = and_(jobs.c.repo == repos.c.namespace + "/" + repos.c.name, visible_to(caller))
    return exists().where(same_repo)
