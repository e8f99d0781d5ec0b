"""What the service has found in each ingested commit."""

from typing import Any

from sqlalchemy import Row, Select, delete, insert, select, update

from app.store.positions import after_newest, cursor_of
from app.store.records import DeltaRecord, Page, Repo, Token
from app.store.repos import visible_to
from app.store.subject import Subject
from app.store.tables import commits, deltas, repos
from merge_core.errors import NotFoundError


class DeltaRecords(Subject):
    """One record per commit."""

    def put_delta(self, record: DeltaRecord) -> None:
        """Keep what was found in a commit, in place of an earlier finding; the repo takes the kind of its head."""
        namespace, name = record.repo.split("/", 1)
        commit = (
            select(commits.c.key, commits.c.repo_id)
            .join(repos, repos.c.id == commits.c.repo_id)
            .where(repos.c.namespace == namespace, repos.c.name == name, commits.c.id == record.commit)
        )
        columns = ("id", "base", "kind", "format", "state", "reason", "created_at")
        values = {column: getattr(record, column) for column in columns} | {"summary": dict(record.summary)}
        with self._database.write(lasting=False) as connection:
            row = connection.execute(commit).one_or_none()
            if row is None:
                raise NotFoundError("no such commit", where="commit", found=f"{record.repo}@{record.commit}")
            connection.execute(delete(deltas).where(deltas.c.commit_key == row.key))
            connection.execute(insert(deltas).values(commit_key=row.key, **values))
            is_head = (repos.c.id == row.repo_id) & (repos.c.head == record.commit) & (repos.c.kind != "composition")
            connection.execute(update(repos).where(is_head).values(kind=record.kind))

    def get_delta(self, delta_id: str, caller: Token | None) -> DeltaRecord | None:
        """The record of this id, when the caller may read its repo."""
        with self._database.read() as connection:
            row = connection.execute(_query().where(deltas.c.id == delta_id, visible_to(caller))).one_or_none()
            return None if row is None else _record(row)

    def delta_of(self, repo: Repo, commit_id: str) -> DeltaRecord | None:
        """What was found in this commit; None until it has been looked at."""
        with self._database.read() as connection:
            query = _query().where(repos.c.id == repo.id, commits.c.id == commit_id)
            row = connection.execute(query).one_or_none()
            return None if row is None else _record(row)

    def list_deltas(
        self,
        caller: Token | None,
        *,
        kind: str | None = "delta",
        repo: str | None = None,
        base: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[DeltaRecord]:
        """Records of repos the caller may read, the newest first; `kind` None for bases and plain files too."""
        query = _query().where(visible_to(caller))
        full_name = repos.c.namespace + "/" + repos.c.name
        for column, wanted in ((deltas.c.kind, kind), (deltas.c.base, base), (full_name, repo)):
            query = query if wanted is None else query.where(column == wanted)
        query = after_newest(query, deltas, cursor).limit(limit + 1)
        with self._database.read() as connection:
            found = [_record(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), cursor_of(found[limit - 1]) if len(found) > limit else None)


def _query() -> Select[Any]:
    columns = (deltas, repos.c.namespace, repos.c.name, commits.c.id.label("commit_id"))
    joined = select(*columns).join(commits, commits.c.key == deltas.c.commit_key)
    return joined.join(repos, repos.c.id == commits.c.repo_id)


def _record(row: Row[Any]) -> DeltaRecord:
    return DeltaRecord(
        id=row.id,
        repo=f"{row.namespace}/{row.name}",
        commit=row.commit_id,
        base=row.base,
        kind=row.kind,
        format=row.format,
        state=row.state,
        reason=row.reason,
        summary=row.summary,
        created_at=row.created_at,
    )
