"""Counts for monitoring."""

from sqlalchemy import func, select

from app.store.subject import Subject
from app.store.tables import blobs, jobs


class Figures(Subject):
    """How much there is of what."""

    def count_jobs(self) -> dict[str, int]:
        """Jobs by state, shards included."""
        query = select(jobs.c.state, func.count().label("number")).group_by(jobs.c.state)
        with self._database.read() as connection:
            return {row.state: row.number for row in connection.execute(query)}

    def count_blobs(self) -> tuple[int, int]:
        """How many blobs, and their bytes."""
        query = select(func.count(), func.coalesce(func.sum(blobs.c.size), 0))
        with self._database.read() as connection:
            count, size = connection.execute(query).one()
            return count, int(size)
