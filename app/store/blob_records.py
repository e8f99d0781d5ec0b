"""Which blobs are here, who may know that they are, and who still needs them.

Bytes are announced before they are put in the store and recorded after. So whoever dies in between leaves a row that
says where to look, and who removes bytes (`app.store.garbage`) has the same row to lock.
"""

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, case, exists, select, update

from app.store.columns import EPOCH
from app.store.database import dialect_of, on_each_dialect
from app.store.records import ANY_NAMESPACE, Token
from app.store.repos import readable_by
from app.store.subject import Subject, now
from app.store.tables import blob_holds, blob_owners, blobs, commits, files, repos

HERE, ARRIVING, GOING = "here", "arriving", "going"
ARRIVAL = timedelta(hours=1)
"""How long putting bytes in the store may take."""
UNCOMMITTED = timedelta(days=1)
"""How long bytes that were sent wait for a commit, as long as parts of an upload wait for the next."""
AT_ONCE = 500

_OF_BLOB = blobs.c.sha256 == bindparam("blob")
_MINE = (blob_owners.c.sha256 == bindparam("blob")) & (blob_owners.c.owner == bindparam("by"))
_HERE = select(blobs.c.size).where(_OF_BLOB, blobs.c.state == HERE)
_KEPT = _HERE.with_for_update(read=True)
_OWNED = select(exists().where(_MINE))
_EXPIRING = update(blob_owners).where(_MINE)
_FOLLOWED = (
    update(blob_owners)
    .where(blob_owners.c.sha256.in_(bindparam("sent", expanding=True)), blob_owners.c.owner == bindparam("by"))
    .where(blob_owners.c.pending > 0)
    .values(pending=blob_owners.c.pending - 1)
)


class BlobRecords(Subject):
    """The bytes that commits may name."""

    def announce_blob(self, sha256: str, size: int, *, owner: Token | None = None, job_id: str | None = None) -> None:
        """Say that the bytes are about to be in the blob store, sent by `owner` or made by a job.

        From here on nobody removes them. Waits for somebody who is just doing so.
        """
        with self._database.write() as connection:
            _upsert_blob(connection, sha256, size, ARRIVING)
            if owner is not None:
                _add_pending(connection, sha256, owner.id)
            if job_id is not None:
                hold_blobs(connection, [sha256], job_id)

    def record_blob(self, sha256: str, size: int, owner: Token | None = None) -> None:
        """Say that the bytes are in the blob store. `owner` has sent them and may commit them."""
        with self._database.write(lasting=False) as connection:
            add_blob(connection, sha256, size)
            if owner is None:
                return
            waiting = {"blob": sha256, "by": owner.id, "expires_at": now() + UNCOMMITTED}
            if not connection.execute(_EXPIRING, waiting).rowcount:
                _add_pending(connection, sha256, owner.id, UNCOMMITTED)

    def promise_blob(self, sha256: str, owner: Token) -> bool:
        """Keep bytes that `owner` has just sent and that are here already; False when they are not."""
        if not self.blob_known(sha256):  # as most are not: a transaction that writes takes twice as long
            return False
        with self._database.write(lasting=False) as connection:
            if connection.execute(_KEPT, {"blob": sha256}).first() is None:
                return False
            _add_pending(connection, sha256, owner.id, UNCOMMITTED)
            return True

    def promise_blobs(self, sha256s: Collection[str], owner: Token) -> None:
        """Keep bytes that the caller was told need not be sent, as if they had been."""
        with self._database.write(lasting=False) as connection:
            for sha256 in sorted(sha256s):
                _add_pending(connection, sha256, owner.id, UNCOMMITTED)

    def settle_blobs(self, sha256s: Collection[str], owner: Token) -> None:
        """A commit has followed what the owner has sent: from now on that is what keeps the bytes."""
        with self._database.write(lasting=False) as connection:
            settle_pending(connection, sha256s, owner)

    def abandon_arrivals(self) -> None:
        """Nobody is at work: what was announced and never recorded will not come."""
        arriving = select(blobs.c.sha256).where(blobs.c.state == ARRIVING)
        with self._database.write() as connection:
            connection.execute(
                update(blob_owners).where(blob_owners.c.sha256.in_(arriving)).values(expires_at=EPOCH, pending=0)
            )

    def blob_known(self, sha256: str) -> bool:
        """True when the bytes are here, whoever may read them."""
        return self.blob_size(sha256) is not None

    def blob_size(self, sha256: str) -> int | None:
        """The blob's size in bytes, or None when it is not here."""
        with self._database.read() as connection:
            return connection.execute(_HERE, {"blob": sha256}).scalar_one_or_none()

    def size_in_repo(self, repo_id: int, sha256: str) -> int | None:
        """The size of a file that some commit of the repo has; None where none has it."""
        query = select(files.c.size).join(commits, commits.c.key == files.c.commit_key)
        query = query.where(files.c.sha256 == sha256, commits.c.repo_id == repo_id).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).scalar_one_or_none()

    def readable_size(self, caller: Token | None, sha256: str) -> int | None:
        """The blob's size in bytes, or None when it is not here, or not for the caller to read."""
        with self._database.read() as connection:
            size = connection.execute(_HERE, {"blob": sha256}).scalar_one_or_none()
            return size if size is not None and _may_read(connection, caller, sha256) else None

    def may_read_blob(self, caller: Token | None, sha256: str) -> bool:
        """True when some repo whose files the caller may read has it, or the caller has sent it."""
        with self._database.read() as connection:
            return _may_read(connection, caller, sha256)


def settle_pending(connection: Connection, sha256s: Collection[str], owner: Token) -> None:
    """`settle_blobs` inside the caller's transaction."""
    wanted = sorted(set(sha256s))
    for start in range(0, len(wanted), AT_ONCE):
        connection.execute(_FOLLOWED, {"sent": wanted[start : start + AT_ONCE], "by": owner.id})


def add_blob(connection: Connection, sha256: str, size: int) -> None:
    """Record a blob inside the caller's transaction."""
    _upsert_blob(connection, sha256, size, HERE)


def hold_blobs(connection: Connection, sha256s: Collection[str], job_id: str) -> None:
    """Keep those of the blobs that are here, or announced, for as long as the job's family is open."""
    wanted = sorted(set(sha256s))
    for start in range(0, len(wanted), AT_ONCE):
        some = blobs.c.sha256.in_(wanted[start : start + AT_ONCE]) & (blobs.c.state != GOING)
        found = connection.execute(select(blobs.c.sha256).where(some).with_for_update(read=True)).scalars()
        rows = [{"sha256": sha256, "job_id": job_id} for sha256 in found]
        if rows:
            connection.execute(dialect_of(connection).insert(blob_holds).on_conflict_do_nothing(), rows)


def _upsert_blob(connection: Connection, sha256: str, size: int, state: str) -> None:
    """The row as one that is arriving or here; one that is here stays so, whoever sends the bytes again."""
    moment = now()
    row = {"sha256": sha256, "size": size, "created_at": moment, "state": state, "touched_at": moment}
    connection.execute(_BLOB(connection), row)


def _add_pending(connection: Connection, sha256: str, owner: str, wait: timedelta = ARRIVAL) -> None:
    row = {"sha256": sha256, "owner": owner, "pending": 1, "expires_at": now() + wait}
    connection.execute(_PENDING(connection), row)


def _has_owner(connection: Connection, sha256: str, owner: str) -> bool:
    return connection.execute(_OWNED, {"blob": sha256, "by": owner}).scalar_one()


def _may_read(connection: Connection, caller: Token | None, sha256: str) -> bool:
    if caller is not None and _has_owner(connection, sha256, caller.id):
        return True
    if caller is not None and ANY_NAMESPACE in caller.namespaces:
        is_here = exists().where(blobs.c.sha256 == sha256, blobs.c.state == HERE)
        return connection.execute(select(is_here)).scalar_one()
    query = (
        select(files.c.sha256)
        .join(commits, commits.c.key == files.c.commit_key)
        .join(repos, repos.c.id == commits.c.repo_id)
        .where(files.c.sha256 == sha256, readable_by(caller))
        .limit(1)
    )
    return connection.execute(query).first() is not None


def _upserted_blob(dialect: Any) -> Any:
    added = dialect.insert(blobs)
    state = case((blobs.c.state == HERE, HERE), else_=added.excluded.state)
    changed = {"touched_at": added.excluded.touched_at, "state": state}
    return added.on_conflict_do_update(index_elements=["sha256"], set_=changed)


def _one_more_pending(dialect: Any) -> Any:
    added = dialect.insert(blob_owners)
    changed = {"pending": blob_owners.c.pending + 1, "expires_at": added.excluded.expires_at}
    return added.on_conflict_do_update(index_elements=["sha256", "owner"], set_=changed)


_BLOB = on_each_dialect(_upserted_blob)
_PENDING = on_each_dialect(_one_more_pending)
