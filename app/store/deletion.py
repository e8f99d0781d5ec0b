"""Deleting a repo: what else goes with it."""

from sqlalchemy import delete, select

from app.store.composition_names import give_up_name
from app.store.job_rows import settle_family
from app.store.records import OPEN_STATES, Repo
from app.store.subject import Subject
from app.store.tables import compositions, jobs, repos


class Deletion(Subject):
    """Takes things away."""

    def delete_repo(self, repo: Repo) -> None:
        """Forget the repo, its commits and compositions, and stop its jobs; blobs stay until nothing needs them.

        A composition under way that is awaited under another name too goes on under that.
        """
        work = select(jobs.c.id).where(
            jobs.c.repo == repo.full_name, jobs.c.parent_id.is_(None), jobs.c.state.in_(OPEN_STATES)
        )
        with self._database.write() as connection:
            give_up_name(connection, repo.full_name)
            for job_id in connection.execute(work).scalars().all():
                settle_family(connection, job_id, "cancelled", None)
            connection.execute(delete(compositions).where(compositions.c.name == repo.full_name))
            connection.execute(delete(repos).where(repos.c.id == repo.id))
