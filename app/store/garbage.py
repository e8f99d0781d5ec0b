"""Bytes that nothing needs any more: removed for good, and never beside somebody who is about to need them.

A blob is needed by a commit that names it, by a job of an open family that reads or has made it, by what is packed
against it, by a xorb that is kept, and by a caller who has sent it and not committed it yet. What is needed by none is
first marked `going`, so that no commit takes it; then its bytes and its row go, under a lock on the row that whoever
announces the same bytes waits for.
"""

from collections.abc import Callable, Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, Connection, and_, delete, exists, func, or_, select, update

from app.store.blob_records import GOING
from app.store.records import OPEN_STATES
from app.store.subject import Subject, now
from app.store.surveys import forget_surveys
from app.store.tables import blob_holds, blob_origins, blob_owners, blobs, files, jobs
from app.store.xorb_tables import xorbs

SETTLED = timedelta(seconds=10)
"""What was touched later than so long ago may be on its way into a commit."""
MOST_AT_ONCE = 500

Remove = Callable[[str], None]


class Garbage(Subject):
    """What can go."""

    def unneeded_blobs(self, settled: timedelta = SETTLED) -> list[str]:
        """What nothing seems to need, and what a call of `collect_blob` that died was about to remove."""
        before = now() - settled
        candidates = or_(blobs.c.state == GOING, and_(blobs.c.touched_at < before, ~_is_needed()))
        with self._database.read() as connection:
            query = select(blobs.c.sha256).where(candidates).order_by(blobs.c.touched_at).limit(MOST_AT_ONCE)
            return list(connection.execute(query).scalars())

    def unrecorded_blobs(self, digests: Iterable[str]) -> list[str]:
        """Those of the digests of which there is no record, not even that they are arriving or going."""
        with self._database.read() as connection:
            known = set(connection.execute(select(blobs.c.sha256)).scalars())
        return [digest for digest in digests if digest not in known]

    def collect_blob(self, sha256: str, remove: Remove) -> bool:
        """Remove the bytes by `remove`, and forget them; False where they are needed after all.

        Whoever dies half way leaves a blob that is `going`, which the next call goes on with.
        """
        return self._condemn(sha256) and self._discard(sha256, remove)

    def _condemn(self, sha256: str) -> bool:
        with self._database.write() as connection:
            if not _locked(connection, sha256):
                return False
            # A statement of its own: it sees what was committed while the one before waited for the lock.
            needed = select(blobs.c.sha256).where(blobs.c.sha256 == sha256, _is_needed())
            if connection.execute(needed).first() is not None:
                return False
            connection.execute(update(blobs).where(blobs.c.sha256 == sha256).values(state=GOING))
            return True

    def _discard(self, sha256: str, remove: Remove) -> bool:
        with self._database.write() as connection:
            state = select(blobs.c.state).where(blobs.c.sha256 == sha256)
            if not _locked(connection, sha256) or connection.execute(state).scalar_one() != GOING:
                return False
            forget_surveys(connection, sha256)
            remove(sha256)
            connection.execute(delete(blobs).where(blobs.c.sha256 == sha256))
            return True


def _locked(connection: Connection, sha256: str) -> bool:
    """Holds the row until the transaction ends; False when it is gone or somebody else has it."""
    row = select(blobs.c.sha256).where(blobs.c.sha256 == sha256).with_for_update(skip_locked=True)
    return connection.execute(row).first() is not None


def is_held() -> ColumnElement[bool]:
    """The condition on blobs under which a job of an open family reads or has made one."""
    root = jobs.alias("root")
    family = jobs.outerjoin(root, root.c.id == jobs.c.parent_id)
    held = (
        select(blob_holds.c.job_id)
        .select_from(blob_holds.join(family, jobs.c.id == blob_holds.c.job_id))
        .where(blob_holds.c.sha256 == blobs.c.sha256, func.coalesce(root.c.state, jobs.c.state).in_(OPEN_STATES))
    )
    return held.exists()


def _is_needed() -> ColumnElement[bool]:
    """The condition on blobs under which one stays."""
    waiting = exists().where(
        blob_owners.c.sha256 == blobs.c.sha256, blob_owners.c.pending > 0, blob_owners.c.expires_at > now()
    )
    leant_on = exists().where(blob_origins.c.origin == blobs.c.sha256)
    kept = exists().where(xorbs.c.sha256 == blobs.c.sha256)
    return or_(exists().where(files.c.sha256 == blobs.c.sha256), is_held(), waiting, leant_on, kept)
