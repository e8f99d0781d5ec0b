"""A worker: takes one job at a time, each in a process of its own that can be killed."""

import logging
import os
import signal
import time
from contextlib import suppress
from importlib import import_module

import structlog
from obstore.exceptions import GenericError
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.executions import Execution
from rq.job import Job as Message
from rq.serializers import JSONSerializer
from sqlalchemy.exc import OperationalError

from app.jobs.perform import HANDLERS, Work, do, fail, take
from app.jobs.processes import die_with, new_worker_name
from app.jobs.queue import QUEUES, Jobs, connect
from app.jobs.staging import close_attempt
from app.settings import Settings
from app.store.compositions import INGEST
from app.store.store import Store
from merge_core.first_use import load_operations

MONITORING_S = 5
MAINTENANCE_S = 5
WORKER_TTL_S = 20
LONGEST_LOOK_S = 2.0  # after which a build that waits gets its turn
SOME_LOOKS = 20
MAY_PASS = (OperationalError, RedisError, GenericError)  # the database, the queue or the object store is away

log = structlog.get_logger("stockpot.worker")


class PotWorker(Worker):
    """RQ's worker with a short lease, and with processes that do not outlive it."""

    def __init__(self, settings: Settings, connection: Redis) -> None:
        super().__init__(
            QUEUES,
            name=new_worker_name(),
            connection=connection,
            serializer=JSONSerializer,
            job_monitoring_interval=MONITORING_S,
            maintenance_interval=MAINTENANCE_S,
            worker_ttl=WORKER_TTL_S,
        )
        self._settings = settings

    def get_heartbeat_ttl(self, job: Message, working_time: float = 0.0) -> int:
        """RQ's own adds a minute, in which nobody takes up the job of a dead worker."""
        return self._settings.lease_s

    def main_work_horse(self, job: Message, queue: Queue) -> None:
        """In the job's process, right after the fork."""
        assert self.pid is not None, "a worker that runs knows its process"
        die_with(self.pid)
        super().main_work_horse(job, queue)

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        """Kill the job's process. RQ's own asks for a process group first, and gets ours when there is no process
        yet or it has not made its group: that would kill the worker."""
        if self.horse_pid:
            with suppress(ProcessLookupError):
                os.kill(self.horse_pid, sig)

    def monitor_work_horse(self, job: Message, queue: Queue, execution: Execution) -> None:
        """Until the job's process has ended, however it did."""
        super().monitor_work_horse(job, queue, execution)
        close_attempt(self._settings, job.id, self.name)

    def handle_work_horse_killed(self, job: Message, retpid: int, ret_val: int, rusage: object) -> None:
        """The process died by itself, most likely for want of memory: not to be tried for ever."""
        cause = f"the job's process died of signal {os.WTERMSIG(ret_val)}" if ret_val else "the job's process died"
        store = Store(self._settings.database_url)
        try:
            store.count_crash(job.id, cause)
        finally:
            store.close()  # the next fork must not inherit a connection


def perform(job_id: str) -> None:
    """What the process of a job runs. Raises only what a later attempt may get past: RQ then queues it again."""
    settings = Settings.from_environment()
    store = Store(settings.database_url)
    try:
        work = take(settings, store, job_id)
        if work is not None:
            _do_whatever_happens(work)
            if work.job.kind == INGEST:
                _look_at_more(settings, store)
    finally:
        store.close()


def _look_at_more(settings: Settings, store: Store) -> None:
    """Commits that wait to be looked at: each takes milliseconds, a process of its own ten times as long.

    Their messages stay in the queue until they are done, for another process in case this one dies.
    """
    queue = Jobs(settings, store)
    end = time.monotonic() + LONGEST_LOOK_S
    while done := _look_at_some(settings, store, end):
        queue.forget_all(done)


def _look_at_some(settings: Settings, store: Store, end: float) -> list[str]:
    """The jobs that were there to be done before this moment, and are done."""
    done = []
    for job_id in store.queued_jobs(INGEST, SOME_LOOKS) if time.monotonic() < end else ():
        work = take(settings, store, job_id, takeover=False) if time.monotonic() < end else None
        if work is not None:
            _do_whatever_happens(work)
            done.append(job_id)
    return done


def _do_whatever_happens(work: Work) -> None:
    try:
        do(work)
    except MAY_PASS:
        raise
    except Exception as error:  # the outermost loop: whatever it is, the job must not hang or come back for ever
        log.exception("the job broke", job=work.job.id)
        fail(work, {"type": "Internal", "message": f"something broke inside the service: {type(error).__name__}"})


def preload() -> None:
    """Load what jobs need before the first fork: a job's process then starts in 0.1 s in place of 1.5 s.

    None of it may touch a GPU, or start a thread: neither lives through a fork. tests/app/jobs/test_worker.py looks.
    """
    for module, _name in HANDLERS.values():
        import_module(module)
    load_operations()


def run_worker(settings: Settings) -> int:
    """Work until told to stop."""
    preload()
    logging.getLogger("rq.worker").setLevel(logging.WARNING)
    PotWorker(settings, connect(settings)).work(logging_level="WARNING")
    return 0
