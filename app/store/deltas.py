"""What the service has found in each ingested commit."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, bindparam, delete, insert, or_, select, update

from app.store.positions import after_newest, cursor_of
from app.store.records import DeltaRecord, Page, Repo, Token
from app.store.repos import readable_by
from app.store.subject import Subject
from app.store.tables import commits, deltas, repos
from merge_core.errors import NotFoundError


class DeltaRecords(Subject):
    """One record per commit."""

    def put_delta(self, record: DeltaRecord, by_tensor: Sequence[Mapping[str, Any]] = ()) -> None:
        """Keep what was found in a commit, in place of an earlier finding; the repo takes the kind of its head.

        `by_tensor` are the rows of what a delta touches.
        """
        columns = ("id", "base", "kind", "format", "state", "reason", "created_at", "base_repo", "base_commit")
        values = {column: getattr(record, column) for column in columns}
        documents = {"summary": dict(record.summary), "facts": dict(record.facts), "by_tensor": list(by_tensor)}
        with self._database.write(lasting=False) as connection:
            row = commit_row(connection, record.repo, record.commit)
            connection.execute(_FORGOTTEN, {"of": row.key})
            connection.execute(_ADDED, {"commit_key": row.key, **values, **documents})
            connection.execute(_KIND_OF_HEAD, {"repo": row.repo_id, "commit": record.commit, "kind": record.kind})

    def get_delta(self, delta_id: str, caller: Token | None) -> DeltaRecord | None:
        """The record of this id, when the caller may read its repo's files: it tells of them."""
        with self._database.read() as connection:
            row = connection.execute(_query().where(deltas.c.id == delta_id, readable_by(caller))).one_or_none()
            return None if row is None else _record(row)

    def delta_of(self, repo: Repo, commit_id: str) -> DeltaRecord | None:
        """What was found in this commit; None until it has been looked at."""
        with self._database.read() as connection:
            row = connection.execute(_OF_COMMIT, {"repo": repo.id, "commit": commit_id}).one_or_none()
            return None if row is None else _record(row)

    def touched_by(self, delta_id: str) -> list[dict[str, Any]]:
        """A row for each tensor that the delta touches; none where nothing is known of them. Check who may read it."""
        with self._database.read() as connection:
            found = connection.execute(select(deltas.c.by_tensor).where(deltas.c.id == delta_id)).scalar_one_or_none()
            return list(found or ())

    def deltas_without(self, base: str, limit: int) -> list[DeltaRecord]:
        """Deltas of no known base, or that name the repo `base` and were found to fit another; the newest first."""
        elsewhere = (deltas.c.base == base) & (deltas.c.base_repo != base)
        query = _query().where(deltas.c.kind == "delta", or_(deltas.c.base_repo.is_(None), elsewhere))
        with self._database.read() as connection:
            newest = query.order_by(deltas.c.created_at.desc()).limit(limit)
            return [_record(row) for row in connection.execute(newest)]

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
        """Records of repos whose files the caller may read, the newest first; `kind` None for bases and files too.

        `base` is a repo that they were found to fit, or a base as the files name it.
        """
        query = _query().where(readable_by(caller))
        full_name = repos.c.namespace + "/" + repos.c.name
        for column, wanted in ((deltas.c.kind, kind), (full_name, repo)):
            query = query if wanted is None else query.where(column == wanted)
        if base is not None:
            query = query.where(or_(deltas.c.base == base, deltas.c.base_repo == base))
        query = after_newest(query, deltas, cursor).limit(limit + 1)
        with self._database.read() as connection:
            found = [_record(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), cursor_of(found[limit - 1]) if len(found) > limit else None)


def commit_row(connection: Connection, repo: str, commit: str) -> Row[Any]:
    """The commit's `key` and `repo_id`. Raises NotFoundError when it is gone."""
    namespace, name = repo.split("/", 1)
    named = {"namespace": namespace, "name": name, "commit": commit}
    row = connection.execute(_COMMIT, named).one_or_none()
    if row is None:
        raise NotFoundError("no such commit", where="commit", found=f"{repo}@{commit}")
    return row


def _query() -> Select[Any]:
    of_delta = [column for column in deltas.c if column is not deltas.c.by_tensor]
    columns = (*of_delta, repos.c.namespace, repos.c.name, commits.c.id.label("commit_id"))
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
        base_repo=row.base_repo,
        base_commit=row.base_commit,
        facts=row.facts or {},
    )


_OF_COMMIT = _query().where(repos.c.id == bindparam("repo"), commits.c.id == bindparam("commit"))
_COMMIT: Select[Any] = (
    select(commits.c.key, commits.c.repo_id)
    .join(repos, repos.c.id == commits.c.repo_id)
    .where(repos.c.namespace == bindparam("namespace"), repos.c.name == bindparam("name"))
    .where(commits.c.id == bindparam("commit"))
)
_FORGOTTEN = delete(deltas).where(deltas.c.commit_key == bindparam("of"))
_ADDED = insert(deltas)
_KIND_OF_HEAD = update(repos).where(
    repos.c.id == bindparam("repo"), repos.c.head == bindparam("commit"), repos.c.kind != "composition"
)
