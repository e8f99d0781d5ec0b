"""Repos: named histories of files. What they hold is in app/store/commits.py."""

from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, insert, literal, select, true, tuple_, update
from sqlalchemy.exc import IntegrityError

from app.store.records import ANY_NAMESPACE, Gate, Page, Repo, RepoKind, Token
from app.store.subject import Subject, now
from app.store.tables import compositions, repos
from merge_core.errors import ConflictError, NotFoundError

NAMES_TO_SUGGEST_FROM = 5000
# Made once, as are others in this folder: to make a statement takes longer than to run it.
_OF_NAME = select(repos).where(repos.c.namespace == bindparam("namespace"), repos.c.name == bindparam("name"))
_LOCKED = select(repos).where(repos.c.id == bindparam("repo")).with_for_update()
_ADDED = insert(repos).returning(repos)


class RepoRecords(Subject):
    """Repos by name."""

    def create_repo(self, namespace: str, name: str, private: bool = False, kind: RepoKind = "files") -> Repo:
        """A repo without commits. Raises ConflictError when the name is taken."""
        with self._database.write() as connection:
            return new_repo(connection, namespace, name, private, kind)

    def ensure_repo(self, namespace: str, name: str, private: bool = False) -> Repo:
        """The repo of this name, made when there is none; an existing one keeps its visibility."""
        found = self.get_repo(namespace, name)
        if found:
            return found
        try:
            return self.create_repo(namespace, name, private)
        except ConflictError:  # somebody was faster
            return self.require_repo(f"{namespace}/{name}")

    def get_repo(self, namespace: str, name: str) -> Repo | None:
        """The repo, whoever asks: check `may_read` before showing it."""
        with self._database.read() as connection:
            return find_repo(connection, namespace, name)

    def require_repo(self, full_name: str) -> Repo:
        """The repo, or NotFoundError."""
        repo = self.get_repo(*full_name.split("/", 1)) if "/" in full_name else None
        if repo is None:
            raise NotFoundError("no such repo", where="repo", found=full_name, expected="namespace/name")
        return repo

    def list_repos(
        self,
        caller: Token | None,
        *,
        namespace: str | None = None,
        kind: RepoKind | None = None,
        search: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[Repo]:
        """What the caller may read, by name; `search` is a part of `namespace/name`, in any case."""
        query = select(repos).where(visible_to(caller)).order_by(repos.c.namespace, repos.c.name).limit(limit + 1)
        if namespace is not None:
            query = query.where(repos.c.namespace == namespace)
        if kind is not None:
            query = query.where(repos.c.kind == kind)
        if search:
            query = query.where((repos.c.namespace + "/" + repos.c.name).icontains(search, autoescape=True))
        if cursor:
            namespace_then, _, name_then = cursor.partition("/")
            after = tuple_(literal(namespace_then), literal(name_then))
            query = query.where(tuple_(repos.c.namespace, repos.c.name) > after)
        with self._database.read() as connection:
            found = [repo_of(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), found[limit - 1].full_name if len(found) > limit else None)

    def set_visibility(self, repo: Repo, private: bool) -> Repo:
        """The repo as it then is: hidden from other namespaces, or shown to them."""
        with self._database.write() as connection:
            named = compositions.c.name == repo.full_name
            connection.execute(update(compositions).where(named).values(private=private))
            return changed_repo(connection, repo, {"private": private})

    def set_gate(self, repo: Repo, gate: Gate) -> Repo:
        """The repo as it then is: with a gate only its namespace reads its files. None of them lets others in yet."""
        with self._database.write() as connection:
            return changed_repo(connection, repo, {"gated": gate})

    def known_names(self, caller: Token | None) -> list[str]:
        """Names the caller may read, for the suggestions of an error."""
        query = select(repos.c.namespace, repos.c.name).where(visible_to(caller)).limit(NAMES_TO_SUGGEST_FROM)
        with self._database.read() as connection:
            return [f"{row.namespace}/{row.name}" for row in connection.execute(query)]


def visible_to(caller: Token | None) -> ColumnElement[bool]:
    """The condition on repos under which the caller may read one."""
    if caller is None:
        return repos.c.private.is_(False)
    if ANY_NAMESPACE in caller.namespaces:
        return true()
    return repos.c.private.is_(False) | repos.c.namespace.in_(sorted(caller.namespaces))


def readable_by(caller: Token | None) -> ColumnElement[bool]:
    """The condition on repos under which the caller may read the files of one: not behind a gate of others."""
    if caller is None:
        return visible_to(caller) & (repos.c.gated == "")
    if ANY_NAMESPACE in caller.namespaces:
        return true()
    return visible_to(caller) & ((repos.c.gated == "") | repos.c.namespace.in_(sorted(caller.namespaces)))


def find_repo(connection: Connection, namespace: str, name: str) -> Repo | None:
    """The repo of this name."""
    row = connection.execute(_OF_NAME, {"namespace": namespace, "name": name}).one_or_none()
    return None if row is None else repo_of(row)


def insert_repo(connection: Connection, namespace: str, name: str, private: bool, kind: RepoKind) -> Repo:
    """A new repo; raises IntegrityError when the name is taken."""
    moment = now()
    values = {"namespace": namespace, "name": name, "kind": kind, "private": private, "head": None}
    return repo_of(connection.execute(_ADDED, {**values, "created_at": moment, "updated_at": moment}).one())


def new_repo(connection: Connection, namespace: str, name: str, private: bool, kind: RepoKind) -> Repo:
    """The same; raises ConflictError when the name is taken."""
    try:
        return insert_repo(connection, namespace, name, private, kind)
    except IntegrityError:
        raise ConflictError("this name is taken", where="repo", found=f"{namespace}/{name}") from None


def locked_repo(connection: Connection, repo_id: int) -> Repo:
    """The repo, whose row no other transaction can change until this one ends."""
    row = connection.execute(_LOCKED, {"repo": repo_id}).one_or_none()
    if row is None:
        raise NotFoundError("the repo has been deleted", where="repo")
    return repo_of(row)


def changed_repo(connection: Connection, repo: Repo, values: dict[str, Any]) -> Repo:
    """The repo with other values, inside the caller's transaction."""
    locked_repo(connection, repo.id)
    return repo_of(connection.execute(update(repos).where(repos.c.id == repo.id).values(values).returning(repos)).one())


def repo_of(row: Row[Any]) -> Repo:
    """The record in a row."""
    dates = (row.created_at, row.updated_at)
    return Repo(row.id, row.namespace, row.name, row.kind, row.private, row.head, *dates, row.gated, row.awaits)
