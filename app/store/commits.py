"""Commits. Each keeps its whole tree, so reading one needs no history."""

import json
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256

from sqlalchemy import Connection, bindparam, insert, select, update

from app.store.records import Commit, FileEntry, Repo
from app.store.repos import locked_repo
from app.store.revisions import (
    COMMIT_LENGTH,
    MAIN,
    MAIN_REF,
    SHORTEST_PREFIX,
    branch_ref,
    history,
    history_length,
    one_commit,
    resolve,
    tip_of,
)
from app.store.subject import Subject, new_id, now
from app.store.tables import commits, files, refs, repos
from app.store.trees import Changes, changed, check_tree, tree_of
from merge_core.errors import NotFoundError, StaleParentError, nearest

NO_COMMIT = "0" * COMMIT_LENGTH
"""What stands for the commit of a repo that has none, as in git; Hub clients insist on one."""

_ADDED = insert(commits).returning(commits.c.key)
_FILES = insert(files)
_MOVED = update(refs).where(refs.c.repo_id == bindparam("repo"), refs.c.name == bindparam("ref"))
_MOVED_HEAD = update(repos).where(repos.c.id == bindparam("repo"), repos.c.head.is_distinct_from(bindparam("to")))


class CommitRecords(Subject):
    """What repos hold, at each of their commits."""

    def commit(
        self, repo: Repo, changes: Changes, message: str, author: str, parent: str | None = None, branch: str = MAIN
    ) -> Commit:
        """A commit of `changes` on a branch; its newest commit itself when they change nothing.

        Raises StaleParentError when `parent` is given, in full or by its first digits, and is not the newest;
        NotFoundError when the branch, a path to delete or a blob does not exist.
        """
        with self._database.write() as connection:
            return write_commit(connection, repo.id, changes, message, author, parent=parent, branch=branch)

    def super_squash(self, repo: Repo, message: str, author: str, branch: str = MAIN) -> Commit:
        """One commit without parents in place of a branch's history; the older ones stay, for who names them by id."""
        with self._database.write() as connection:
            locked, ref = locked_repo(connection, repo.id), branch_ref(branch)
            tip = existing_tip(connection, locked, ref)
            if tip is None:
                raise NotFoundError("this repo has no commits yet", where="branch", found=branch)
            tree = {entry.path: entry for entry in tree_of(connection, repo.id, tip)}
            return move_ref(connection, locked, ref, add_commit(connection, locked, None, tree, message, author))

    def head(self, repo: Repo, revision: str = MAIN) -> Commit:
        """The newest commit of a branch. Raises NotFoundError when there is none."""
        return self.resolve_revision(repo, revision)

    def tip(self, repo: Repo, branch: str = MAIN) -> str | None:
        """The id of a branch's newest commit; None where there is none."""
        with self._database.read() as connection:
            return tip_of(connection, repo, branch_ref(branch))

    def resolve_revision(self, repo: Repo, revision: str = MAIN) -> Commit:
        """The commit that a revision names: see `app.store.revisions.resolve`."""
        with self._database.read() as connection:
            return resolve(connection, repo, revision)

    def require_commit(self, repo: Repo, commit_id: str) -> Commit:
        """The commit of this id in full, or NotFoundError."""
        with self._database.read() as connection:
            return one_commit(connection, repo, commit_id)

    def tree(self, commit: Commit) -> list[FileEntry]:
        """Every file of the commit, by path."""
        with self._database.read() as connection:
            return tree_of(connection, commit.repo_id, commit.id)

    def commits(self, repo: Repo, revision: str = MAIN, limit: int = 1000, offset: int = 0) -> list[Commit]:
        """The history up to `revision`, the newest first, without the `offset` newest."""
        with self._database.read() as connection:
            return history(connection, resolve(connection, repo, revision), limit, offset)

    def count_commits(self, repo: Repo, revision: str = MAIN) -> int:
        """How long the history up to `revision` is."""
        with self._database.read() as connection:
            return history_length(connection, resolve(connection, repo, revision))


def write_commit(
    connection: Connection,
    repo_id: int,
    changes: Changes,
    message: str,
    author: str,
    *,
    parent: str | None = None,
    branch: str = MAIN,
    commit_id: str | None = None,
    replace_all: bool = False,
) -> Commit:
    """A commit on a branch inside the caller's transaction. `commit_id` and `replace_all` as for `add_commit`."""
    repo, ref = locked_repo(connection, repo_id), branch_ref(branch)
    tip = existing_tip(connection, repo, ref)
    if parent is not None and not _is_same(parent, tip):
        raise StaleParentError("the branch has moved on", where="parent", found=parent, expected=tip or "no parent")
    commit = add_commit(connection, repo, tip, changes, message, author, commit_id=commit_id, replace_all=replace_all)
    return move_ref(connection, repo, ref, commit)


def existing_tip(connection: Connection, repo: Repo, ref: str) -> str | None:
    """The newest commit of a branch; None only for `main` before the first. Raises NotFoundError for no branch."""
    tip = tip_of(connection, repo, ref)
    if tip is None and ref != MAIN_REF:
        named = connection.execute(select(refs.c.name).where(refs.c.repo_id == repo.id)).scalars()
        known = nearest(ref, [MAIN_REF, *named])
        raise NotFoundError(f"no such branch in '{repo.full_name}'", where="branch", found=ref, expected=known)
    return tip


def add_commit(
    connection: Connection,
    repo: Repo,
    parent: str | None,
    changes: Changes,
    message: str,
    author: str,
    *,
    commit_id: str | None = None,
    replace_all: bool = False,
) -> Commit:
    """A commit that no ref names yet; `parent` itself when nothing changes.

    `commit_id` is taken unless the repo has such a commit already. With `replace_all` the tree is `changes` and
    nothing else.
    """
    before = {entry.path: entry for entry in tree_of(connection, repo.id, parent)} if parent else {}
    after = changed({} if replace_all else before, changes)
    if parent and after == before:
        return one_commit(connection, repo, parent)
    check_tree(connection, after, changes)
    moment = now()
    identity = commit_id if commit_id and not _exists(connection, repo.id, commit_id) else None
    identity = identity or _identity(repo, parent, after, message, author, moment)
    commit = Commit(identity, repo.id, parent, message, author, moment)
    _insert_commit(connection, commit, after)
    return commit


def move_ref(connection: Connection, repo: Repo, ref: str, commit: Commit) -> Commit:
    """Make a ref that there is name the commit, which is returned."""
    if ref == MAIN_REF:
        moved = {"head": commit.id, "updated_at": commit.created_at}
        connection.execute(_MOVED_HEAD, {"repo": repo.id, "to": commit.id, **moved})
    else:
        connection.execute(_MOVED, {"repo": repo.id, "ref": ref, "commit_id": commit.id})
    return commit


def _is_same(named: str, tip: str | None) -> bool:
    """Whether the tip is named, in full or by its first digits; before the first commit by zeros, as in git."""
    return named == NO_COMMIT if tip is None else len(named) >= SHORTEST_PREFIX and tip.startswith(named.lower())


def _identity(
    repo: Repo, parent: str | None, tree: Mapping[str, FileEntry], message: str, author: str, moment: datetime
) -> str:
    listing = [[entry.path, entry.sha256] for entry in tree.values()]
    # The last part keeps equal commits of one moment on two branches apart.
    content = [repo.full_name, repo.id, parent, listing, message, author, moment.isoformat(), new_id()]
    return sha256(json.dumps(content).encode()).hexdigest()[:COMMIT_LENGTH]


def _insert_commit(connection: Connection, commit: Commit, tree: Mapping[str, FileEntry]) -> None:
    names = ("id", "repo_id", "parent", "message", "author", "created_at")
    values = {name: getattr(commit, name) for name in names}
    key = connection.execute(_ADDED, values).scalar_one()
    rows = [{"commit_key": key, "path": e.path, "sha256": e.sha256, "size": e.size} for e in tree.values()]
    if rows:
        connection.execute(_FILES, rows)


def _exists(connection: Connection, repo_id: int, commit_id: str) -> bool:
    query = select(commits.c.key).where(commits.c.repo_id == repo_id, commits.c.id == commit_id)
    return connection.execute(query).first() is not None
