"""A commit of what was sent, and the look at it: both or neither, whenever the process ends."""

from app.store.blob_records import settle_pending
from app.store.commits import write_commit
from app.store.compositions import INGEST
from app.store.job_rows import insert_job
from app.store.records import Commit, Job, Repo, Token
from app.store.repos import locked_repo
from app.store.revisions import MAIN, branch_ref, tip_of
from app.store.subject import Subject
from app.store.trees import Changes


class Publishing(Subject):
    """What callers put into repos."""

    def publish(
        self, repo: Repo, changes: Changes, message: str, owner: Token, parent: str | None = None, branch: str = MAIN
    ) -> tuple[Commit, Job | None]:
        """A commit as `commit` makes it, of bytes that the owner has sent, and a look at it; None where it was there.

        Raises what `commit` does.
        """
        sent = [entry.sha256 for entry in changes.values() if entry is not None]
        with self._database.write() as connection:
            named = locked_repo(connection, repo.id).full_name
            before = tip_of(connection, repo, branch_ref(branch))
            commit = write_commit(connection, repo.id, changes, message, owner.name, parent=parent, branch=branch)
            settle_pending(connection, sent, owner)
            if commit.id == before:
                return commit, None
            payload = {"repo": named, "commit": commit.id}
            return commit, insert_job(connection, INGEST, f"{named}@{commit.id}", named, payload)
