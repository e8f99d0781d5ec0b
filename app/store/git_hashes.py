"""What git calls the bytes of blobs: worked out once, by who first needs it."""

from collections.abc import Collection, Mapping
from hashlib import sha1

from sqlalchemy import select

from app.store.blob_records import AT_ONCE
from app.store.database import dialect_of
from app.store.subject import Subject
from app.store.tables import blobs, git_hashes


def git_oid(content: bytes) -> str:
    """git's hash of a file with these bytes."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class GitHashes(Subject):
    """git's hashes beside ours."""

    def git_oids(self, sha256s: Collection[str]) -> dict[str, str]:
        """Those that are known, by sha256."""
        wanted = sorted(set(sha256s))
        found: dict[str, str] = {}
        with self._database.read() as connection:
            for start in range(0, len(wanted), AT_ONCE):
                query = select(git_hashes).where(git_hashes.c.sha256.in_(wanted[start : start + AT_ONCE]))
                found |= {row.sha256: row.oid for row in connection.execute(query)}
        return found

    def keep_git_oids(self, oids: Mapping[str, str]) -> None:
        """Remember them for those blobs that are still here."""
        with self._database.write(lasting=False) as connection:
            for sha256, oid in sorted(oids.items()):
                row = select(blobs.c.sha256).where(blobs.c.sha256 == sha256).with_for_update(read=True)
                if connection.execute(row).first() is not None:
                    added = dialect_of(connection).insert(git_hashes).values(sha256=sha256, oid=oid)
                    connection.execute(added.on_conflict_do_nothing())
