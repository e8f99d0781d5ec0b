"""The door to the queue. SQL says what is to be done; a message carries ids and nothing else."""

from collections.abc import Iterable
from contextlib import suppress

import structlog
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as RedisRetry
from rq import Queue, Retry
from rq.command import send_stop_job_command
from rq.exceptions import DuplicateJobError, InvalidJobOperation, NoSuchJobError
from rq.job import Dependency, JobStatus
from rq.job import Job as Message
from rq.serializers import JSONSerializer

from app.settings import Settings
from app.store.compositions import FINALISER, INGEST, SHARD
from app.store.pulls import PULL
from app.store.records import Commit, Composition, Job, Repo
from app.store.store import Store
from merge_core.errors import NotFoundError

PERFORM = "app.jobs.worker.perform"
PACK = "pack"
# Earlier queues come first: looking at an upload takes milliseconds, building may take hours, packing saves disk only.
QUEUE_OF = {
    INGEST: "stockpot-quick",
    FINALISER: "stockpot-quick",
    SHARD: "stockpot-build",
    PULL: "stockpot-build",
    PACK: "stockpot-spare",
}
QUEUES = tuple(dict.fromkeys(QUEUE_OF.values()))
NO_TIMEOUT = -1  # the deadline is in SQL, where it also ends what a stuck process holds
RESULT_TTL_S = 600
FAILURE_TTL_S = 24 * 3600
RESTARTS = 1000  # after a lost worker; how often a job may take its own process down is counted in SQL

log = structlog.get_logger("stockpot.queue")


def connect(settings: Settings) -> Redis:
    """A client that outlives a restart of the server. Without a REDIS_URL, of the one embedded in a service."""
    return Redis.from_url(
        settings.redis_url or f"unix://{settings.data / 'valkey' / 'socket'}",
        retry=RedisRetry(ExponentialBackoff(cap=1.0, base=0.05), 6),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        socket_connect_timeout=5,
        socket_timeout=20,
        health_check_interval=15,
    )


class Jobs:
    """What the HTTP side asks of the queue. None of it fails when the queue is away: SQL keeps it, and it follows."""

    def __init__(self, settings: Settings, store: Store, connection: Redis | None = None) -> None:
        self._store = store
        self._redis = connection or connect(settings)
        self._queues = {name: Queue(name, connection=self._redis, serializer=JSONSerializer) for name in QUEUES}

    def submit_composition(self, composition: Composition) -> Job:
        """Queue the shards and, after them, the finaliser, whose job this returns. Harmless when it is under way."""
        job = self._store.get_job(composition.job_id)
        if job is None:
            raise NotFoundError("no such job", where="composition", found=composition.id)
        if job.is_due:
            self.enqueue_all([job, *self._store.shards_of(job.id)])
        return job

    def start_composition(self, composition: Composition) -> bool:
        """Queue what was only planned; False for all who come after the first."""
        started = self._store.start_composition(composition)
        if started:
            self.submit_composition(composition)
        return started

    def submit_ingest(self, repo: Repo, commit: Commit) -> Job:
        """Queue a look at what a commit's files are."""
        payload = {"repo": repo.full_name, "commit": commit.id}
        job = self._store.create_job(INGEST, f"{repo.full_name}@{commit.id}", payload, repo=repo.full_name)
        self.enqueue_all([job])
        return job

    def submit_packing(self, repo: str, commit: str) -> Job:
        """Queue the packing of a commit's checkpoint against others that are here."""
        payload = {"repo": repo, "commit": commit}
        job = self._store.create_job(PACK, f"{repo}@{commit}", payload, repo=repo)
        self.enqueue_all([job])
        return job

    def submit_pull(self, repo: Repo, revision: str) -> Job:
        """Queue the pull of a revision from the upstream hub."""
        payload = {"repo": repo.full_name, "revision": revision}
        job = self._store.create_job(PULL, f"{repo.full_name}@{revision}", payload, repo=repo.full_name)
        self.enqueue_all([job])
        return job

    def cancel(self, job_id: str) -> Job:
        """Cancel the job and what belongs to it. It is over at once; processes still at it are stopped."""
        for open_id in self._store.request_cancel(job_id):
            self.stop(open_id)
        job = self._store.get_job(job_id)
        if job is None:
            raise NotFoundError("no such job", where="job", found=job_id)
        return job

    def enqueue_all(self, jobs: Iterable[Job]) -> None:
        """Queue those jobs that are due and not in the queue already, each after what it waits for."""
        try:
            for job in sorted(jobs, key=lambda job: job.kind == FINALISER):
                if job.is_due:
                    self.enqueue(job)
        except RedisError as error:
            log.warning("the queue is away; the jobs follow when it is back", reason=str(error))

    def enqueue(self, job: Job) -> None:
        """Queue one job, a finaliser behind those of its shards that are not done; nothing when it is there."""
        queue = self.queue(QUEUE_OF[job.kind])
        shards = self._store.shards_of(job.id) if job.kind == FINALISER else []
        waits_for = [shard.id for shard in shards if shard.is_open]
        message = queue.create_job(
            PERFORM,
            args=[job.id],
            job_id=job.id,
            timeout=NO_TIMEOUT,
            result_ttl=RESULT_TTL_S,
            failure_ttl=FAILURE_TTL_S,
            retry=Retry(max=RESTARTS),
            # A failed shard must not leave the finaliser waiting for ever: SQL decides what becomes of it.
            depends_on=Dependency(waits_for, allow_failure=True) if waits_for else None,
        )
        if waits_for and Message.exists(job.id, connection=self._redis):
            return
        with suppress(DuplicateJobError):
            queue.enqueue_job(message, unique=not waits_for)

    def forget(self, job_id: str) -> None:
        """Take the job's message out of the queue, whatever its state."""
        with suppress(NoSuchJobError):
            self._message(job_id).delete()

    def forget_all(self, job_ids: Iterable[str]) -> None:
        """The same for several at once."""
        messages = Message.fetch_many(job_ids, connection=self._redis, serializer=JSONSerializer)
        with self._redis.pipeline() as pipeline:
            for message in messages:
                if message is not None:
                    message.delete(pipeline=pipeline)
            pipeline.execute()

    def stop(self, job_id: str) -> None:
        """Kill the process at the job; take a job that nobody is at out of the queue. Fine when it is not there.

        The command is sent once and may get lost: the reconciler repeats it, and the process itself asks SQL.
        """
        try:
            message = self._message(job_id)
            if message.get_status(refresh=False) == JobStatus.STARTED and message.worker_name:
                send_stop_job_command(self._redis, job_id, serializer=JSONSerializer)
            else:
                message.delete()
        except (NoSuchJobError, InvalidJobOperation):
            pass
        except RedisError as error:
            log.warning("the queue is away; the process sees for itself that it is cancelled", reason=str(error))

    def queue(self, name: str) -> Queue:
        """One of QUEUES."""
        return self._queues[name]

    def ping(self) -> None:
        """Raises RedisError when the queue is away."""
        self._redis.ping()

    def _message(self, job_id: str) -> Message:
        return Message.fetch(job_id, connection=self._redis, serializer=JSONSerializer)
