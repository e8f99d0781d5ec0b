"""The door to the queue. SQL says what is to be done; a message carries ids and nothing else."""

import structlog
from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as RedisRetry

from app.settings import Settings
from app.store.records import Commit, Composition, Job, Repo
from app.store.store import Store
from merge_core.errors import NotFoundError

PERFORM = "app.jobs.perform.perform"
SERIALIZER = "json"
INGEST = "ingest"
# Earlier queues come first: looking at an upload takes milliseconds, building may take hours.
QUEUE_OF = {INGEST: "stockpot-quick", "composition": "stockpot-quick", "shard": "stockpot-build"}
QUEUES = tuple(dict.fromkeys(QUEUE_OF.values()))
NO_TIMEOUT = -1  # the deadline is in SQL, where it also ends what a stuck process holds
RESULT_TTL_S = 600
FAILURE_TTL_S = 24 * 3600
RESTARTS = 1000  # after a lost worker; how often a job may take its own process down is counted in SQL

log = structlog.get_logger("stockpot.queue")


def connect(settings: Settings) -> "Redis":
    """A client that outlives a restart of the server."""
    return Redis.from_url(
        settings.redis_url or "",
        retry=RedisRetry(ExponentialBackoff(cap=1.0, base=0.05), 6),
        retry_on_error=[RedisConnectionError, RedisTimeoutError],
        socket_connect_timeout=5,
        socket_timeout=20,
        health_check_interval=15,
    )


class Jobs:
    """What the HTTP side asks of the queue. None of it fails when the queue is away: SQL keeps it, and it follows."""

    def __init__(self, settings: Settings, store: Store, connection: "Redis | None" = None) -> None:
        self._store = store
        self._redis = connection or connect(settings)

    def submit_composition(self, composition: Composition) -> Job:
        """Queue the shards and, after them, the finaliser, whose job this returns. Harmless when it is under way."""
        job = self._store.get_job(composition.job_id)
        if job is None:
            raise NotFoundError("no such job", where="composition", found=composition.id)
        if job.is_open:
            self.enqueue_all([*self._store.shards_of(job.id), job])
        return job

    def submit_ingest(self, repo: Repo, commit: Commit) -> Job:
        """Queue a look at what a commit's files are."""
        payload = {"repo": repo.full_name, "commit": commit.id}
        job = self._store.create_job(INGEST, f"{repo.full_name}@{commit.id}", payload, repo=repo.full_name)
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

    def enqueue_all(self, jobs: list[Job]) -> None:
        """Queue those jobs, given in order, that are open and not in the queue already."""
        try:
            for job in jobs:
                if job.is_open:
                    self.enqueue(job)
        except RedisError as error:
            log.warning("the queue is away; the jobs follow when it is back", reason=str(error))

    def enqueue(self, job: Job) -> None:
        """Queue one job, a finaliser behind those of its shards that are not done."""
        raise NotImplementedError

    def stop(self, job_id: str) -> None:
        """Take the job out of the queue and kill the process at it, if any."""
        raise NotImplementedError
