"""Repos and their commits. Every commit keeps its whole tree, so reading one needs no history."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, insert, literal, select, true, tuple_, update
from sqlalchemy.exc import IntegrityError

from app.store.records import ANY_NAMESPACE, Commit, FileEntry, Page, Repo, RepoKind, Token
from app.store.subject import Subject, now
from app.store.tables import blobs, commits, files, repos
from merge_core.errors import ConflictError, InputError, NotFoundError, nearest

MAIN = "main"
COMMIT_LENGTH = 40
SHORTEST_PREFIX = 7
NAMES_TO_SUGGEST_FROM = 5000

Changes = Mapping[str, FileEntry | None]
"""What a commit does, by path: the new file, or None where it is deleted."""


class RepoRecords(Subject):
    """Named histories of files."""

    def create_repo(
        self, namespace: str, name: str, private: bool = False, kind: RepoKind = "files", *, lasting: bool = True
    ) -> Repo:
        """A repo without commits. Raises ConflictError when the name is taken."""
        try:
            with self._database.write(lasting=lasting) as connection:
                return insert_repo(connection, namespace, name, private, kind)
        except IntegrityError:
            raise ConflictError("this name is taken", where="repo", found=f"{namespace}/{name}") from None

    def ensure_repo(self, namespace: str, name: str, private: bool = False, *, lasting: bool = True) -> Repo:
        """The repo of this name, made when there is none; an existing one keeps its visibility.

        Not `lasting` before a commit to it that is: see `Database.write`.
        """
        found = self.get_repo(namespace, name)
        if found:
            return found
        try:
            return self.create_repo(namespace, name, private, lasting=lasting)
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
            found = [_repo(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), found[limit - 1].full_name if len(found) > limit else None)

    def commit(self, repo: Repo, changes: Changes, message: str, author: str, parent: str | None = None) -> Commit:
        """A commit of `changes` on the head; the head itself when they change nothing.

        Raises ConflictError when `parent` is given and is not the head, NotFoundError when a path to delete or
        a blob does not exist.
        """
        with self._database.write() as connection:
            return write_commit(connection, repo.id, changes, message, author, parent=parent)

    def head(self, repo: Repo, revision: str = MAIN) -> Commit:
        """The newest commit of a branch. Raises NotFoundError when there is none."""
        return self.resolve_revision(repo, revision)

    def resolve_revision(self, repo: Repo, revision: str = MAIN) -> Commit:
        """The commit that a branch, a commit id or at least 7 of its first digits name, or NotFoundError."""
        with self._database.read() as connection:
            return _resolve(connection, repo, revision)

    def tree(self, commit: Commit) -> list[FileEntry]:
        """Every file of the commit, by path."""
        with self._database.read() as connection:
            return tree_of(connection, commit.repo_id, commit.id)

    def commits(self, repo: Repo, revision: str = MAIN, limit: int = 1000) -> list[Commit]:
        """The history up to `revision`, the newest first."""
        with self._database.read() as connection:
            newest = _resolve(connection, repo, revision)
            key = select(commits.c.key).where(commits.c.repo_id == repo.id, commits.c.id == newest.id)
            query = select(commits).where(commits.c.repo_id == repo.id, commits.c.key <= key.scalar_subquery())
            return [_commit(row) for row in connection.execute(query.order_by(commits.c.key.desc()).limit(limit))]

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


def find_repo(connection: Connection, namespace: str, name: str) -> Repo | None:
    """The repo of this name."""
    query = select(repos).where(repos.c.namespace == namespace, repos.c.name == name)
    row = connection.execute(query).one_or_none()
    return None if row is None else _repo(row)


def insert_repo(connection: Connection, namespace: str, name: str, private: bool, kind: RepoKind) -> Repo:
    """A new repo; raises IntegrityError when the name is taken."""
    moment = now()
    values = {"namespace": namespace, "name": name, "kind": kind, "private": private, "head": None}
    row = connection.execute(
        insert(repos).values(**values, created_at=moment, updated_at=moment).returning(repos)
    ).one()
    return _repo(row)


def write_commit(
    connection: Connection,
    repo_id: int,
    changes: Changes,
    message: str,
    author: str,
    *,
    parent: str | None = None,
    commit_id: str | None = None,
    replace_all: bool = False,
) -> Commit:
    """A commit inside the caller's transaction. `commit_id` is taken unless the repo has such a commit already.

    With `replace_all` the tree is `changes` and nothing else.
    """
    repo = _locked(connection, repo_id)
    if parent is not None and parent != repo.head:
        raise ConflictError("the repo has moved on", where="parent", found=parent, expected=repo.head or "no parent")
    before = {entry.path: entry for entry in tree_of(connection, repo.id, repo.head)} if repo.head else {}
    after = _changed({} if replace_all else before, changes)
    if repo.head and after == before:
        return _one_commit(connection, repo.id, repo.head)
    _check_tree(connection, after, changes)
    moment = now()
    identity = commit_id if commit_id and not _exists(connection, repo.id, commit_id) else None
    identity = identity or _identity(repo, after, message, author, moment)
    commit = Commit(identity, repo.id, repo.head, message, author, moment)
    _insert_commit(connection, commit, after)
    return commit


def _locked(connection: Connection, repo_id: int) -> Repo:
    """The repo, whose row no other transaction can change until this one ends."""
    row = connection.execute(select(repos).where(repos.c.id == repo_id).with_for_update()).one_or_none()
    if row is None:
        raise NotFoundError("the repo has been deleted", where="repo")
    return _repo(row)


def _changed(before: Mapping[str, FileEntry], changes: Changes) -> dict[str, FileEntry]:
    after = dict(before)
    for path, entry in changes.items():
        if entry is not None:
            after[path] = replace(entry, path=path)
        elif after.pop(path, None) is None:
            raise NotFoundError("no such file to delete", where=path, expected=nearest(path, before))
    return dict(sorted(after.items()))


def _check_tree(connection: Connection, tree: Mapping[str, FileEntry], changes: Changes) -> None:
    for path in tree:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if (folder := "/".join(parts[:depth])) in tree:
                raise InputError("a file and a folder cannot have one name", where=path, found=f"a file '{folder}'")
    for path, entry in changes.items():
        size = None if entry is None else _blob_size(connection, entry.sha256)
        if entry is not None and size != entry.size:
            found = "nothing" if size is None else f"{size} bytes"
            raise NotFoundError("these bytes are not here", where=path, found=found, expected=f"{entry.size} bytes")


def _blob_size(connection: Connection, digest: str) -> int | None:
    """Of bytes that are here, and cannot go before the transaction is over."""
    query = select(blobs.c.size).where(blobs.c.sha256 == digest, blobs.c.state == "here")
    return connection.execute(query.with_for_update(read=True)).scalar_one_or_none()


def _identity(repo: Repo, tree: Mapping[str, FileEntry], message: str, author: str, moment: datetime) -> str:
    listing = [[entry.path, entry.sha256] for entry in tree.values()]
    content = [repo.full_name, repo.id, repo.head, listing, message, author, moment.isoformat()]
    return sha256(json.dumps(content).encode()).hexdigest()[:COMMIT_LENGTH]


def _insert_commit(connection: Connection, commit: Commit, tree: Mapping[str, FileEntry]) -> None:
    names = ("id", "repo_id", "parent", "message", "author", "created_at")
    values = {name: getattr(commit, name) for name in names}
    key = connection.execute(insert(commits).values(values).returning(commits.c.key)).scalar_one()
    rows = [{"commit_key": key, "path": e.path, "sha256": e.sha256, "size": e.size} for e in tree.values()]
    if rows:
        connection.execute(insert(files), rows)
    moved = {"head": commit.id, "updated_at": commit.created_at}
    connection.execute(update(repos).where(repos.c.id == commit.repo_id).values(moved))


def _exists(connection: Connection, repo_id: int, commit_id: str) -> bool:
    query = select(commits.c.key).where(commits.c.repo_id == repo_id, commits.c.id == commit_id)
    return connection.execute(query).first() is not None


def _one_commit(connection: Connection, repo_id: int, commit_id: str) -> Commit:
    query = select(commits).where(commits.c.repo_id == repo_id, commits.c.id == commit_id)
    return _commit(connection.execute(query).one())


def tree_of(connection: Connection, repo_id: int, commit_id: str) -> list[FileEntry]:
    """Every file of a commit, by path."""
    query = (
        select(files.c.path, files.c.sha256, files.c.size)
        .join(commits, commits.c.key == files.c.commit_key)
        .where(commits.c.repo_id == repo_id, commits.c.id == commit_id)
    )
    entries = [FileEntry(row.path, row.sha256, row.size) for row in connection.execute(query)]
    return sorted(entries, key=lambda entry: entry.path)  # databases disagree on the order of text


def _resolve(connection: Connection, repo: Repo, revision: str) -> Commit:
    if revision == MAIN:
        row = connection.execute(select(repos.c.head).where(repos.c.id == repo.id)).one_or_none()
        if row is not None and row.head:
            return _one_commit(connection, repo.id, row.head)
        raise NotFoundError("this repo has no commits yet", where=f"repo '{repo.full_name}'", found=repo.full_name)
    matches = _matching(connection, repo, revision)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError("several commits begin so", where="revision", found=revision, expected="more of its digits")
    newest = select(commits.c.id).where(commits.c.repo_id == repo.id).order_by(commits.c.key.desc()).limit(100)
    known = [MAIN, *connection.execute(newest).scalars()]
    raise NotFoundError(
        f"no such revision in '{repo.full_name}'", where="revision", found=revision, expected=nearest(revision, known)
    )


def _matching(connection: Connection, repo: Repo, revision: str) -> list[Commit]:
    lowered = revision.lower()
    if not SHORTEST_PREFIX <= len(lowered) <= COMMIT_LENGTH or set(lowered) - set("0123456789abcdef"):
        return []
    query = select(commits).where(commits.c.repo_id == repo.id, commits.c.id.startswith(lowered)).limit(2)
    return [_commit(row) for row in connection.execute(query)]


def _repo(row: Row[Any]) -> Repo:
    dates = (row.created_at, row.updated_at)
    return Repo(row.id, row.namespace, row.name, row.kind, row.private, row.head, *dates, row.gated)


def _commit(row: Row[Any]) -> Commit:
    return Commit(row.id, row.repo_id, row.parent, row.message, row.author, row.created_at)
