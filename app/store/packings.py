"""Which blobs are packed, and the blobs that they are packed against, which stay for as long as they do.

Nothing that others are packed against is packed itself afterwards. So each packed blob is older than those that lean
on it, and there is no circle.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, exists, false, insert, or_, select, update

from app.store.blob_records import HERE
from app.store.garbage import is_held
from app.store.records import Repo
from app.store.subject import Subject
from app.store.tables import base_tensors, blob_origins, blob_packings, blobs, commits, deltas, repos
from merge_core.errors import ConflictError

MOST_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a blob a tensor's bytes begin."""

    blob: str
    begin: int


class Packings(Subject):
    """Packed blobs."""

    def has_packing(self, sha256: str) -> bool:
        """True when its packed form counts; one that nobody has recorded does not."""
        with self._database.read() as connection:
            return _any(connection, blob_packings.c.sha256 == sha256)

    def is_origin(self, sha256: str) -> bool:
        """True when others are packed against it."""
        with self._database.read() as connection:
            return _any(connection, blob_origins.c.origin == sha256)

    def origins_of(self, sha256: str) -> frozenset[str]:
        """What it is packed against."""
        query = select(blob_origins.c.origin).where(blob_origins.c.sha256 == sha256)
        with self._database.read() as connection:
            return frozenset(connection.execute(query).scalars())

    def record_packing(
        self,
        sha256: str,
        stored: int,
        origins: Collection[str],
        *,
        is_packed: Callable[[], bool],
        install: Callable[[], None],
    ) -> None:
        """Say what the packed form needs, and `install` it, beside the bytes' own file.

        In this order: whoever dies in between leaves a packed file that nobody relies on. Raises ConflictError where
        the blob or an origin is gone, others lean on the blob, or somebody else was faster.
        """
        with self._database.write() as connection:
            _lock_all_here(connection, sha256, origins)
            if _any(connection, blob_origins.c.origin == sha256):
                raise ConflictError("others are packed against it", where="blob", found=sha256)
            if is_packed() and _any(connection, blob_packings.c.sha256 == sha256):
                raise ConflictError("it is packed already", where="blob", found=sha256)
            for table in (blob_origins, blob_packings):
                connection.execute(delete(table).where(table.c.sha256 == sha256))
            connection.execute(insert(blob_packings).values(sha256=sha256, stored=stored, is_whole=True))
            if origins:
                connection.execute(insert(blob_origins), [{"sha256": sha256, "origin": o} for o in sorted(origins)])
            install()

    def whole_packings(self) -> list[str]:
        """Blobs that are packed and whose bytes have a file of their own all the same."""
        query = select(blob_packings.c.sha256).where(blob_packings.c.is_whole).order_by(blob_packings.c.sha256)
        with self._database.read() as connection:
            return list(connection.execute(query.limit(MOST_AT_ONCE)).scalars())

    def drop_plain(self, sha256: str, drop: Callable[[str], bool]) -> bool:
        """Remove the bytes' own file by `drop`, which says whether it is gone; never while a job reads the blob."""
        with self._database.write() as connection:
            row = select(blobs.c.sha256).where(blobs.c.sha256 == sha256, blobs.c.state == HERE)
            if connection.execute(row.with_for_update(skip_locked=True)).first() is None:
                return False
            held = select(blobs.c.sha256).where(blobs.c.sha256 == sha256, is_held())
            if connection.execute(held).first() is not None or not drop(sha256):
                return False
            connection.execute(update(blob_packings).where(blob_packings.c.sha256 == sha256).values(is_whole=False))
            return True

    def equal_tensor(self, reader: Repo, digest: str, length: int, *, besides: Collection[str]) -> Place | None:
        """A blob with a tensor of these bytes, in a repo that whoever reads `reader` may read too.

        None that has a base and is not packed yet: as an origin it never would be.
        """
        here = exists().where(blobs.c.sha256 == base_tensors.c.blob, blobs.c.state == HERE)
        is_packed = exists().where(blob_packings.c.sha256 == base_tensors.c.blob)
        has_base = exists().where(deltas.c.commit_key == commits.c.key, deltas.c.base_commit.is_not(None))
        query = (
            select(base_tensors.c.blob, base_tensors.c.begin)
            .join(commits, commits.c.key == base_tensors.c.commit_key)
            .join(repos, repos.c.id == commits.c.repo_id)
            .where(base_tensors.c.sha256 == digest, base_tensors.c.length == length, base_tensors.c.begin >= 0)
            .where(base_tensors.c.blob.not_in(besides), here, or_(is_packed, ~has_base), _as_open_as(reader))
            .order_by(base_tensors.c.commit_key, base_tensors.c.position)
            .limit(1)
        )
        with self._database.read() as connection:
            row = connection.execute(query).first()
            return None if row is None else Place(row.blob, row.begin)


def _as_open_as(reader: Repo) -> ColumnElement[bool]:
    own = (repos.c.namespace == reader.namespace) if reader.private else false()
    return or_(repos.c.private.is_(False), own)


def _lock_all_here(connection: Connection, sha256: str, origins: Collection[str]) -> None:
    """Until the transaction ends nobody removes any of them."""
    wanted = sorted({sha256, *origins})
    for start in range(0, len(wanted), MOST_AT_ONCE):
        some = wanted[start : start + MOST_AT_ONCE]
        query = select(blobs.c.sha256).where(blobs.c.sha256.in_(some), blobs.c.state == HERE)
        found = set(connection.execute(query.order_by(blobs.c.sha256).with_for_update()).scalars())
        if len(found) < len(some):
            raise ConflictError("a blob is gone", where="blob", found=sorted(set(some) - found)[0])


def _any(connection: Connection, condition: ColumnElement[bool]) -> bool:
    return bool(connection.execute(select(exists().where(condition))).scalar_one())
