"""Which blobs are here, and who may know that they are."""

from datetime import datetime

from sqlalchemy import Connection, exists, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from app.store.records import ANY_NAMESPACE, Token
from app.store.repos import visible_to
from app.store.subject import Subject, now
from app.store.tables import blob_owners, blobs, commits, files, repos


class BlobRecords(Subject):
    """The bytes that commits may name."""

    def record_blob(self, sha256: str, size: int, owner: Token | None = None) -> None:
        """Say that the bytes are in the blob store. `owner` has sent them and may commit them."""
        with self._database.write() as connection:
            add_blob(connection, sha256, size)
            if owner and not _has_owner(connection, sha256, owner.id):
                connection.execute(insert(blob_owners).values(sha256=sha256, owner=owner.id))

    def blob_known(self, sha256: str) -> bool:
        """True when the bytes are here, whoever may read them."""
        return self.blob_size(sha256) is not None

    def blob_size(self, sha256: str) -> int | None:
        """The blob's size in bytes, or None when it is not here."""
        with self._database.read() as connection:
            return connection.execute(select(blobs.c.size).where(blobs.c.sha256 == sha256)).scalar_one_or_none()

    def may_read_blob(self, caller: Token | None, sha256: str) -> bool:
        """True when some repo the caller may read has it, or the caller has sent it."""
        with self._database.read() as connection:
            if caller is not None and _has_owner(connection, sha256, caller.id):
                return True
            if caller is not None and ANY_NAMESPACE in caller.namespaces:
                return connection.execute(select(exists().where(blobs.c.sha256 == sha256))).scalar_one()
            query = (
                select(files.c.sha256)
                .join(commits, commits.c.key == files.c.commit_key)
                .join(repos, repos.c.id == commits.c.repo_id)
                .where(files.c.sha256 == sha256, visible_to(caller))
                .limit(1)
            )
            return connection.execute(query).first() is not None

    def unreferenced_blobs(self, before: datetime) -> list[str]:
        """Blobs recorded before a time that no commit names: their bytes can go."""
        named = exists().where(files.c.sha256 == blobs.c.sha256)
        with self._database.read() as connection:
            query = select(blobs.c.sha256).where(blobs.c.created_at < before, ~named)
            return list(connection.execute(query).scalars())


def add_blob(connection: Connection, sha256: str, size: int) -> None:
    """Record a blob inside the caller's transaction; one already there stays as it is."""
    row = {"sha256": sha256, "size": size, "created_at": now()}
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    connection.execute(dialect.insert(blobs).values(row).on_conflict_do_nothing())


def _has_owner(connection: Connection, sha256: str, owner: str) -> bool:
    query = select(exists().where(blob_owners.c.sha256 == sha256, blob_owners.c.owner == owner))
    return connection.execute(query).scalar_one()
