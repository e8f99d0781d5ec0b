"""SQL against the queue: what is to be done and in no queue is put there; what is over and still runs is stopped."""

import time
from contextlib import suppress
from datetime import timedelta
from uuid import uuid4

import structlog
from obstore.exceptions import BaseError
from redis import Redis
from redis.exceptions import RedisError
from rq.executions import Execution
from rq.registry import StartedJobRegistry
from rq.utils import as_text, current_timestamp
from sqlalchemy.exc import SQLAlchemyError

from app.jobs.processes import is_known_dead
from app.jobs.queue import QUEUES, Jobs, connect
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.compositions import FINALISER
from app.store.records import Job
from app.store.store import Store, open_store

TICK_S = 1.0
SWEEP_S = 5.0
LEADER_KEY = "stockpot:reconciler"
LEADER_MS = 12_000

log = structlog.get_logger("stockpot.reconcile")


class Reconciler:
    """One of them acts at a time, whichever holds the key in the queue."""

    def __init__(self, settings: Settings, store: Store, connection: Redis) -> None:
        self._settings = settings
        self._store = store
        self._redis = connection
        self._blobs = Blobs(settings)
        self._jobs = Jobs(settings, store, connection)
        self._name = uuid4().hex
        self._missed: set[str] = set()

    def restore(self) -> None:
        """Queue all that is due. Only while no worker runs, such as at the start of a service with its own queue."""
        due_jobs = self._store.due_jobs()
        for job in due_jobs:
            self._store.requeue(job.id)
        self._jobs.enqueue_all(due_jobs)

    def leads(self) -> bool:
        """True when it is for this one to act."""
        if self._redis.set(LEADER_KEY, self._name, nx=True, px=LEADER_MS):
            return True
        if self._redis.get(LEADER_KEY) != self._name.encode():
            return False
        self._redis.pexpire(LEADER_KEY, LEADER_MS)
        return True

    def tick(self) -> None:
        """Each second: queue again what a dead worker held, and repeat the stop commands that got lost."""
        self._end_leases_of_the_dead()
        for name in QUEUES:
            self._registry(name).cleanup()
        started = self._started()
        states = self._store.states_of(started) if started else {}
        for job_id in sorted(started):
            if states.get(job_id) in ("cancelled", "failed", None):
                self._jobs.stop(job_id)

    def _end_leases_of_the_dead(self) -> None:
        """A worker of this machine whose process is gone does not renew its lease: no need to wait for its end."""
        for name in QUEUES:
            registry = self._registry(name)
            for job_id, execution_id in registry.get_job_and_execution_ids(cleanup=False):
                with suppress(ValueError):  # the execution has ended since
                    execution = Execution.fetch(execution_id, job_id, self._redis)
                    if is_known_dead(execution.worker_name):
                        self._redis.zadd(registry.key, {execution.composite_key: 0}, xx=True)

    def sweep(self) -> list[str]:
        """Every five seconds: queue again what was in no queue this time and the last; their ids.

        Once is not enough: a job on its way from a queue to a worker is in neither for a moment.
        """
        for job_id in self._store.fail_overdue(self._settings.job_deadline_s):
            log.warning("overdue", job=job_id)
        due_jobs = {job.id: job for job in self._store.due_jobs()}
        absent = self._absent(due_jobs)
        lost = [due_jobs[job_id] for job_id in due_jobs if job_id in absent & self._missed]
        self._missed = absent - {job.id for job in lost}
        for job in lost:
            log.warning("lost from the queue, queued again", job=job.id, kind=job.kind)
            self._jobs.forget(job.id)
            self._store.requeue(job.id)
        self._jobs.enqueue_all(self._with_finalisers(lost, due_jobs))
        return [job.id for job in lost]

    def collect(self) -> list[str]:
        """Every five seconds: remove bytes that nothing needs any more; their hashes."""
        self._blobs.clean_uploads()
        self._store.forget_xorbs(timedelta(days=self._settings.xorb_days))
        gone = [sha256 for sha256 in self._store.unneeded_blobs() if self._collected(sha256)]
        if gone:
            log.info("removed what nothing needs", blobs=len(gone))
        return gone

    def drop_plain(self) -> list[str]:
        """Every five seconds: remove the bytes of packed blobs that nobody has read for a while; their hashes."""
        shelf = self._blobs.packing_shelf
        found = self._store.whole_packings() if shelf is not None else []
        return [sha256 for sha256 in found if shelf is not None and self._store.drop_plain(sha256, shelf.drop_plain)]

    def _collected(self, sha256: str) -> bool:
        try:
            return self._store.collect_blob(sha256, self._blobs.delete)
        except (BaseError, OSError) as error:  # the others can go all the same
            log.warning("cannot remove", sha256=sha256, error=type(error).__name__, reason=str(error))
            return False

    def _absent(self, due_jobs: dict[str, Job]) -> set[str]:
        present = self._started()
        deferred: set[str] = set()
        for name in QUEUES:
            queue = self._jobs.queue(name)
            present.update(queue.get_job_ids(), queue.ready_job_registry.get_job_ids(cleanup=False))
            deferred.update(queue.deferred_job_registry.get_job_ids(cleanup=False))
        # A finaliser that waits for shards which are all over would wait for ever.
        awaited = {job.parent_id for job in due_jobs.values() if job.parent_id}
        return set(due_jobs) - present - (deferred & awaited)

    def _with_finalisers(self, lost: list[Job], due_jobs: dict[str, Job]) -> list[Job]:
        """Forgetting a shard's message also forgets who waits for it: its finaliser is queued anew behind it."""
        parents = {job.parent_id for job in lost if job.parent_id in due_jobs}
        finalisers = [due_jobs[parent] for parent in parents if parent]
        for job in finalisers:
            self._jobs.forget(job.id)
        return [*(job for job in lost if job.kind != FINALISER or job.id not in parents), *finalisers]

    def _started(self) -> set[str]:
        """Jobs with a lease that has not run out."""
        entries: list[str] = [
            as_text(entry)  # type: ignore[arg-type]  # members of a sorted set, without their scores
            for name in QUEUES
            for entry in self._redis.zrangebyscore(self._registry(name).key, current_timestamp(), "+inf")
        ]
        return {entry.partition(":")[0] for entry in entries}

    def _registry(self, name: str) -> StartedJobRegistry:
        return StartedJobRegistry(queue=self._jobs.queue(name))


def run_reconciler(settings: Settings) -> int:
    """Tick and sweep until the process is ended. A queue or a database that is away is waited for."""
    reconciler = Reconciler(settings, open_store(settings), connect(settings))
    swept = 0.0
    while True:
        try:
            if reconciler.leads():
                reconciler.tick()
                if time.monotonic() - swept >= SWEEP_S:
                    swept = time.monotonic()
                    reconciler.sweep()
                    reconciler.collect()
                    reconciler.drop_plain()
        except (RedisError, SQLAlchemyError) as error:
            log.warning("cannot compare", error=type(error).__name__, reason=str(error))
        time.sleep(TICK_S)
