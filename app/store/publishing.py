"""A commit of what was sent, and the look at it: both or neither, whenever the process ends."""

from sqlalchemy import Connection

from app.store.blob_records import settle_pending
from app.store.commits import write_commit
from app.store.compositions import INGEST
from app.store.job_rows import insert_job
from app.store.records import Commit, Job, Repo, Token
from app.store.repos import locked_repo, new_repo
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
        with self._database.write() as connection:
            locked = locked_repo(connection, repo.id)
            before = tip_of(connection, locked, branch_ref(branch))
            commit = write_commit(connection, repo.id, changes, message, owner.name, parent=parent, branch=branch)
            settle_pending(connection, _sent(changes), owner)
            return commit, None if commit.id == before else _look_at(connection, locked, commit)

    def publish_first(
        self, namespace: str, name: str, changes: Changes, message: str, owner: Token
    ) -> tuple[Commit, Job]:
        """The same to a public repo that is made for it. Raises ConflictError when the name is taken."""
        with self._database.write() as connection:
            repo = new_repo(connection, namespace, name, private=False, kind="files")
            commit = write_commit(connection, repo.id, changes, message, owner.name)
            settle_pending(connection, _sent(changes), owner)
            return commit, _look_at(connection, repo, commit)


def _sent(changes: Changes) -> list[str]:
    return [entry.sha256 for entry in changes.values() if entry is not None]


def _look_at(connection: Connection, repo: Repo, commit: Commit) -> Job:
    payload = {"repo": repo.full_name, "commit": commit.id}
    return insert_job(connection, INGEST, f"{repo.full_name}@{commit.id}", repo.full_name, payload)
