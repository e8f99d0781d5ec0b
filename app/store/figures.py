"""Counts for monitoring."""

from collections.abc import Collection

from sqlalchemy import func, select

from app.store.subject import Subject
from app.store.tables import blob_packings, blobs, jobs


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

    def stored_bytes(self, sha256s: Collection[str] | None = None) -> int:
        """What blobs take in the store, packed or not: all of them, or these."""
        taken = func.coalesce(func.sum(func.coalesce(blob_packings.c.stored, blobs.c.size)), 0)
        query = select(taken).select_from(blobs.outerjoin(blob_packings, blob_packings.c.sha256 == blobs.c.sha256))
        if sha256s is not None:
            query = query.where(blobs.c.sha256.in_(sorted(set(sha256s))))
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())
