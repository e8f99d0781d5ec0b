"""What was taken from an upstream hub becomes a commit of ours under its own id."""

from collections.abc import Sequence

from app.store.blob_records import add_blob
from app.store.commits import write_commit
from app.store.compositions import INGEST
from app.store.job_rows import insert_job, lock_family, settle
from app.store.records import Commit, FileEntry, Job
from app.store.repos import find_repo
from app.store.subject import Subject
from merge_core.errors import ConflictError, NotFoundError

PULL = "pull"


class Pulls(Subject):
    """Repos that come from elsewhere."""

    def publish_pulled(
        self, job: Job, token: str, entries: Sequence[FileEntry], commit_id: str, origin: str, left: Sequence[str]
    ) -> Commit:
        """Commit the files, queue a look at them, mark the job done: all of it, or nothing.

        Raises LeaseLostError when the job is no longer this process's to finish.
        """
        with self._database.write() as connection:
            row = lock_family(connection, job.id)
            repo = find_repo(connection, *job.repo.split("/", 1))
            if repo is None:
                raise NotFoundError("the repo has been deleted", where="repo", found=job.repo)
            if repo.kind == "composition":
                raise ConflictError("this repo's files are computed from a recipe", where="repo", found=job.repo)
            for entry in entries:
                add_blob(connection, entry.sha256, entry.size)
            changes = {entry.path: entry for entry in entries}
            message = f"Pull {job.repo}@{commit_id} from {origin}"
            commit = write_commit(
                connection, repo.id, changes, message, origin[:200], commit_id=commit_id, replace_all=True
            )
            payload = {"repo": job.repo, "commit": commit.id}
            insert_job(connection, INGEST, f"{job.repo}@{commit.id}", job.repo, payload)
            result = {"repo": job.repo, "commit": commit.id, "upstream_commit": commit_id, "left": list(left)}
            settle(connection, job.id, token, "done", result=result, done=row.total)
            return commit
