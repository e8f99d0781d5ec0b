"""Which xorbs are kept, and who may name them. A xorb's bytes are a blob, which is needed as long as its row is here.

Clients remember what they have sent, and later only name it. They may name what they have sent themselves, and the
chunks of files that they may read; a xorb of somebody else is to them as one that was never sent.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, exists, select, update

from app.store.blob_records import AT_ONCE, add_blob
from app.store.database import dialect_of
from app.store.records import ANY_NAMESPACE, Token
from app.store.repos import readable_by
from app.store.subject import Subject, now
from app.store.tables import blob_owners, commits, files, repos
from app.store.xorb_tables import xorb_files, xorb_owners, xorbs

MOST_RANGES = 4096
"""Kept of one file: whoever only reads it must send what lies beyond once more."""


class XorbRange(NamedTuple):
    """Chunks `first` up to `stop` of the xorb with this hash."""

    hash: str
    first: int
    stop: int


class XorbRecords(Subject):
    """Runs of chunks that clients may still name."""

    def keep_xorb(self, hash: str, sha256: str, size: int, owner: Token) -> bool:
        """Say that the owner has sent this xorb, whose bytes are in the blob store; True when for the first time.

        The same xorb may come as other bytes, compressed otherwise: those that came first are kept.
        """
        row = {"hash": hash, "sha256": sha256, "touched_at": now()}
        with self._database.write(lasting=False) as connection:
            add_blob(connection, sha256, size)
            added = dialect_of(connection).insert(xorbs).values(row)
            connection.execute(
                added.on_conflict_do_update(index_elements=["hash"], set_={"touched_at": row["touched_at"]})
            )
            _settle(connection, sha256, owner)
            mine = dialect_of(connection).insert(xorb_owners).values(hash=hash, owner=owner.id).on_conflict_do_nothing()
            return bool(connection.execute(mine.returning(xorb_owners.c.hash)).first())

    def name_xorbs(self, ranges: Collection[XorbRange], caller: Token) -> dict[str, str]:
        """The blob of each xorb of which the caller may name these chunks; it is kept as if it had just been sent."""
        wanted = sorted({one.hash for one in ranges})
        found: dict[str, str] = {}
        with self._database.write(lasting=False) as connection:
            for some in _batches(wanted):
                found |= _sent_by(connection, some, caller)
            others = [one for one in ranges if one.hash not in found]
            found |= _in_readable_files(connection, others, caller)
            for some in _batches(sorted(found)):
                connection.execute(update(xorbs).where(xorbs.c.hash.in_(some)).values(touched_at=now()))
        return found

    def note_xorb_file(self, sha256: str, ranges: Iterable[XorbRange]) -> None:
        """Say of which chunks a file is made."""
        rows = [{"sha256": sha256, **one._asdict()} for one in joined(ranges)[:MOST_RANGES]]
        with self._database.write(lasting=False) as connection:
            if rows:
                connection.execute(dialect_of(connection).insert(xorb_files).on_conflict_do_nothing(), rows)

    def forget_xorbs(self, unused: timedelta) -> int:
        """Let go of those that nobody has sent or named for so long; how many."""
        with self._database.write() as connection:
            return connection.execute(delete(xorbs).where(xorbs.c.touched_at < now() - unused)).rowcount


def joined(ranges: Iterable[XorbRange]) -> list[XorbRange]:
    """The same chunks in as few ranges as can be, in order."""
    found: list[XorbRange] = []
    for one in sorted(ranges):
        last = found[-1] if found else None
        if last is not None and last.hash == one.hash and one.first <= last.stop:
            found[-1] = last._replace(stop=max(last.stop, one.stop))
        else:
            found.append(one)
    return found


def _settle(connection: Connection, sha256: str, owner: Token) -> None:
    """The xorb is what keeps the bytes from now on."""
    waiting = (blob_owners.c.sha256 == sha256) & (blob_owners.c.owner == owner.id) & (blob_owners.c.pending > 0)
    connection.execute(update(blob_owners).where(waiting).values(pending=blob_owners.c.pending - 1))


def _sent_by(connection: Connection, hashes: list[str], caller: Token) -> dict[str, str]:
    """Those of the xorbs that the caller has sent, or may name because all that is here is open to it."""
    sent = exists().where(xorb_owners.c.hash == xorbs.c.hash, xorb_owners.c.owner == caller.id)
    condition: list[ColumnElement[bool]] = [xorbs.c.hash.in_(hashes)]
    if ANY_NAMESPACE not in caller.namespaces:
        condition.append(sent)
    return _blobs(connection, condition)


def _in_readable_files(connection: Connection, ranges: list[XorbRange], caller: Token) -> dict[str, str]:
    """Those of the xorbs of which every range lies within files that the caller has sent or may read."""
    closed: set[str] = set()
    names = sorted({one.hash for one in ranges})
    readable = _readable_ranges(connection, names, caller)
    for one in joined(ranges):
        if not _is_within(one, readable.get(one.hash, [])):
            closed.add(one.hash)
    found: dict[str, str] = {}
    for some in _batches([name for name in names if name not in closed]):
        found |= _blobs(connection, [xorbs.c.hash.in_(some)])
    return found


def _readable_ranges(connection: Connection, hashes: list[str], caller: Token) -> dict[str, list[XorbRange]]:
    sent = exists().where(blob_owners.c.sha256 == xorb_files.c.sha256, blob_owners.c.owner == caller.id)
    may_read = sent | _is_in_readable_repo(caller)
    query = select(xorb_files.c.hash, xorb_files.c.first, xorb_files.c.stop).where(may_read)
    rows: list[XorbRange] = []
    for some in _batches(hashes):
        rows += [XorbRange(*row) for row in connection.execute(query.where(xorb_files.c.hash.in_(some)))]
    return {name: list(ranges) for name, ranges in groupby(joined(rows), attrgetter("hash"))}


def _is_in_readable_repo(caller: Token) -> ColumnElement[bool]:
    of_repo = (commits.c.key == files.c.commit_key) & (repos.c.id == commits.c.repo_id)
    return exists().where(files.c.sha256 == xorb_files.c.sha256, of_repo, readable_by(caller))


def _is_within(one: XorbRange, ranges: list[XorbRange]) -> bool:
    """True when one of the ranges, which are in order and apart, has all of it."""
    place = bisect_right(ranges, one.first, key=attrgetter("first")) - 1
    return place >= 0 and one.stop <= ranges[place].stop


def _blobs(connection: Connection, condition: list[ColumnElement[bool]]) -> dict[str, str]:
    rows = connection.execute(select(xorbs.c.hash, xorbs.c.sha256).where(*condition))
    return {row.hash: row.sha256 for row in rows}


def _batches(values: list[str]) -> Iterator[list[str]]:
    return (values[start : start + AT_ONCE] for start in range(0, len(values), AT_ONCE))
