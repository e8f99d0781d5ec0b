"""Full checkpoints by what their tensors hold, so that equal tensors, and the bases of deltas, can be found."""

import json
from collections.abc import Collection, Iterable, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy import CTE, ColumnElement, Row, Select, bindparam, delete, exists, func, insert, select

from app.store.deltas import commit_row
from app.store.records import KnownBase, Repo, StoredHash
from app.store.subject import Subject
from app.store.tables import base_tensors, bases, commits, repos

AT_ONCE = 500
MOST_BASES = 1000
NO_NAMESPACE = ""


class BaseRecords(Subject):
    """Known bases, each a commit with the hashes of its tensors."""

    def put_base(self, repo: str, commit: str, tensors: Sequence[StoredHash], model_type: str | None) -> None:
        """Keep what a commit's tensors are, in place of what was kept. Raises NotFoundError when it is gone."""
        with self._database.write(lasting=False) as connection:
            row = commit_row(connection, repo, commit)
            connection.execute(delete(bases).where(bases.c.commit_key == row.key))
            known = {"layout": _layout(tensors, model_type), "contents": _contents(tensors), "model_type": model_type}
            connection.execute(insert(bases).values(commit_key=row.key, **known))
            rows = [{"commit_key": row.key, "position": at, **_values(tensor)} for at, tensor in enumerate(tensors)]
            if rows:
                connection.execute(insert(base_tensors), rows)

    def known_bases(self, reader: Repo, named: str | None = None) -> list[KnownBase]:
        """The newest known commit on `main` of each other repo that whoever reads `reader` may see, the oldest first.

        A public repo's record must not tell of private ones. `named`, only of the repo `namespace/name`: one that was
        composed counts then too, while a delta that names none is more likely of what it was composed from.
        """
        seen = {"reader": reader.id, "own": reader.namespace if reader.private else NO_NAMESPACE}
        namespace, _, name = (named or "").partition("/")
        query, wanted = (_OF_ALL, {}) if named is None else (_OF_NAME, {"namespace": namespace, "name": name})
        with self._database.read() as connection:
            return [_base(row) for row in connection.execute(query, seen | wanted)]

    def known_base(self, repo: str, commit: str) -> KnownBase | None:
        """What is known of a commit, whoever asks; None where it is no checkpoint, or was not looked at yet."""
        namespace, name = repo.split("/", 1)
        query = _query().where(repos.c.namespace == namespace, repos.c.name == name, commits.c.id == commit)
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else _base(row)

    def base_tensors(self, key: int) -> list[StoredHash]:
        """The tensors of a known base, in the order of its files."""
        query = select(base_tensors).where(base_tensors.c.commit_key == key).order_by(base_tensors.c.position)
        with self._database.read() as connection:
            return [_tensor(row) for row in connection.execute(query)]

    def hashes_in(self, blobs: Collection[str]) -> dict[tuple[str, int, int], str]:
        """The known hashes of runs of bytes in these blobs, by blob, begin and length."""
        columns = (base_tensors.c.blob, base_tensors.c.begin, base_tensors.c.length, base_tensors.c.sha256)
        found: dict[tuple[str, int, int], str] = {}
        with self._database.read() as connection:
            for some in _runs(blobs):
                rows = connection.execute(select(*columns).where(base_tensors.c.blob.in_(some)).distinct())
                found |= {(row.blob, row.begin, row.length): row.sha256 for row in rows}
        return found

    def equal_tensors(self, hashes: Collection[str]) -> dict[int, int]:
        """By the key of a known base, how many of these hashes one of its tensors has."""
        counted: dict[int, int] = {}
        with self._database.read() as connection:
            for some in _runs(hashes):
                count = func.count(base_tensors.c.sha256.distinct())
                query = select(base_tensors.c.commit_key, count.label("equal"))
                query = query.where(base_tensors.c.sha256.in_(some)).group_by(base_tensors.c.commit_key)
                for row in connection.execute(query):
                    counted[row.commit_key] = counted.get(row.commit_key, 0) + row.equal
        return counted


def _down_to_known(chosen: ColumnElement[bool]) -> CTE:
    """The commits on `main` of the chosen repos, from the newest down to one that is a known base."""
    columns = (commits.c.key, commits.c.repo_id, commits.c.parent)
    heads = select(*columns).join(repos, (repos.c.id == commits.c.repo_id) & (repos.c.head == commits.c.id))
    line = heads.where(chosen).cte("line", recursive=True)
    is_parent = (commits.c.repo_id == line.c.repo_id) & (commits.c.id == line.c.parent)
    is_known = exists().where(bases.c.commit_key == line.c.key)
    return line.union_all(select(*columns).join(line, is_parent).where(~is_known))


def _newest_known(chosen: ColumnElement[bool]) -> Select[Any]:
    """The known bases of the chosen repos among those that a reader sees: made once, which takes longer than to ask."""
    own = repos.c.namespace == bindparam("own")
    seen = (repos.c.id != bindparam("reader")) & (repos.c.private.is_(False) | own)
    of_line = bases.c.commit_key.in_(select(_down_to_known(chosen & seen).c.key))
    return _query().where(of_line).order_by(repos.c.id).limit(MOST_BASES)


def _runs(values: Collection[str]) -> Iterable[list[str]]:
    ordered = sorted(set(values))
    return (ordered[start : start + AT_ONCE] for start in range(0, len(ordered), AT_ONCE))


def _query() -> Select[Any]:
    columns = (bases, commits.c.id.label("commit_id"), repos.c.id.label("repo_id"), repos.c.namespace, repos.c.name)
    joined = select(*columns).join(commits, commits.c.key == bases.c.commit_key)
    return joined.join(repos, repos.c.id == commits.c.repo_id)


def _layout(tensors: Sequence[StoredHash], model_type: str | None) -> str:
    return _digest([model_type, sorted([tensor.name, list(tensor.shape)] for tensor in tensors)])


def _contents(tensors: Sequence[StoredHash]) -> str:
    return _digest(sorted([tensor.name, tensor.dtype, list(tensor.shape), tensor.sha256] for tensor in tensors))


def _digest(value: object) -> str:
    return sha256(json.dumps(value).encode()).hexdigest()


def _values(tensor: StoredHash) -> dict[str, object]:
    values = {name: getattr(tensor, name) for name in ("name", "dtype", "sha256", "blob", "begin", "length")}
    return values | {"shape": list(tensor.shape)}


def _tensor(row: Row[Any]) -> StoredHash:
    return StoredHash(row.name, row.dtype, tuple(row.shape), row.sha256, row.blob, row.begin, row.length)


def _base(row: Row[Any]) -> KnownBase:
    full_name = f"{row.namespace}/{row.name}"
    return KnownBase(row.commit_key, row.repo_id, full_name, row.commit_id, row.layout, row.contents, row.model_type)


_OF_ALL = _newest_known(repos.c.kind == "base")
_OF_NAME = _newest_known(
    repos.c.kind.in_(("base", "composition"))
    & (repos.c.namespace == bindparam("namespace"))
    & (repos.c.name == bindparam("name"))
)
