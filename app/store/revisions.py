"""What a revision names, a branch, a tag, a pull request or a commit, and the history behind it."""

from typing import Any

from sqlalchemy import CTE, Connection, Row, bindparam, func, literal, select

from app.store.records import Commit, Repo
from app.store.tables import commits, refs, repos
from merge_core.errors import InputError, NotFoundError, nearest

MAIN = "main"
HEADS, TAGS, PULLS = "refs/heads/", "refs/tags/", "refs/pr/"
MAIN_REF = HEADS + MAIN
"""The one that is no row of `refs`: it is the repo's head."""
COMMIT_LENGTH = 40
SHORTEST_PREFIX = 7
NAMES_TO_SUGGEST_FROM = 100
HEX_DIGITS = frozenset("0123456789abcdef")

_HEAD = select(repos.c.head).where(repos.c.id == bindparam("repo"))
_TIP = select(refs.c.commit_id).where(refs.c.repo_id == bindparam("repo"), refs.c.name == bindparam("ref"))
_OF_REPO = select(commits).where(commits.c.repo_id == bindparam("repo"))
_ONE = _OF_REPO.where(commits.c.id == bindparam("commit"))
_OF_DIGITS = _OF_REPO.where(commits.c.id.startswith(bindparam("digits"))).limit(2)
_OF_HEAD = _OF_REPO.join(repos, (repos.c.id == commits.c.repo_id) & (repos.c.head == commits.c.id))
_OF_REFS = (
    _OF_REPO.add_columns(refs.c.name)
    .join(refs, (refs.c.repo_id == commits.c.repo_id) & (refs.c.commit_id == commits.c.id))
    .where(refs.c.name.in_(bindparam("names", expanding=True)))
)


def branch_ref(branch: str) -> str:
    """The whole name of what can be committed to: a branch, or a pull request by its whole name."""
    return branch if branch.startswith((HEADS, PULLS)) else HEADS + branch


def tip_of(connection: Connection, repo: Repo, ref: str) -> str | None:
    """The commit that a ref names by its whole name."""
    if ref == MAIN_REF:
        return connection.execute(_HEAD, {"repo": repo.id}).scalar_one_or_none()
    return connection.execute(_TIP, {"repo": repo.id, "ref": ref}).scalar_one_or_none()


def resolve(connection: Connection, repo: Repo, revision: str) -> Commit:
    """The commit of a branch, a tag, a ref by its whole name, a commit id, or at least 7 of its first digits.

    Of equal names the branch comes before the tag, and the tag before the first digits of a commit. Raises
    NotFoundError, with what is near.
    """
    named = _of_ref(connection, repo, revision) or _of_digits(connection, repo, revision)
    if named is not None:
        return named
    if revision in (MAIN, MAIN_REF):
        raise NotFoundError("this repo has no commits yet", where=f"repo '{repo.full_name}'", found=repo.full_name)
    known = nearest(revision, _known(connection, repo))
    raise NotFoundError(f"no such revision in '{repo.full_name}'", where="revision", found=revision, expected=known)


def one_commit(connection: Connection, repo: Repo, commit_id: str) -> Commit:
    """The commit of this id in full, or NotFoundError."""
    row = connection.execute(_ONE, {"repo": repo.id, "commit": commit_id}).one_or_none()
    if row is None:
        raise NotFoundError("no such commit", where="commit", found=f"{repo.full_name}@{commit_id}")
    return commit_of(row)


def history(connection: Connection, newest: Commit, limit: int, offset: int) -> list[Commit]:
    """A stretch of the commit's line of parents, itself the first."""
    line = _line(newest, offset + limit)
    of_line = (commits.c.repo_id == newest.repo_id) & (commits.c.id == line.c.id)
    query = select(commits).join(line, of_line).where(line.c.depth >= offset).order_by(line.c.depth)
    return [commit_of(row) for row in connection.execute(query)]


def history_length(connection: Connection, newest: Commit) -> int:
    """How many commits are in the line of parents, itself counted."""
    return connection.execute(select(func.count()).select_from(_line(newest))).scalar_one()


def commit_of(row: Row[Any]) -> Commit:
    """The record in a row."""
    return Commit(row.id, row.repo_id, row.parent, row.message, row.author, row.created_at)


def _line(newest: Commit, most: int | None = None) -> CTE:
    """A commit and its parents, each with its distance: by their links, as keys grow on all branches alike.

    Each step asks for one commit. As a join PostgreSQL may read all of the repo's at every step: 20 000 in 90 s.
    """
    of_repo = commits.c.repo_id == newest.repo_id
    first = select(commits.c.id, commits.c.parent, literal(0).label("depth"))
    line = first.where(of_repo, commits.c.id == newest.id).cte("line", recursive=True)
    grandparent = select(commits.c.parent).where(of_repo, commits.c.id == line.c.parent).scalar_subquery()
    older = select(line.c.parent, grandparent, line.c.depth + 1).where(line.c.parent.is_not(None))
    return line.union_all(older if most is None else older.where(line.c.depth + 1 < most))


def _of_ref(connection: Connection, repo: Repo, revision: str) -> Commit | None:
    names = [revision] if revision.startswith("refs/") else [HEADS + revision, TAGS + revision]
    if MAIN_REF in names:
        row = connection.execute(_OF_HEAD, {"repo": repo.id}).one_or_none()
        return None if row is None else commit_of(row)
    found = connection.execute(_OF_REFS, {"repo": repo.id, "names": names}).all()
    return commit_of(min(found, key=lambda row: names.index(row.name))) if found else None


def _of_digits(connection: Connection, repo: Repo, revision: str) -> Commit | None:
    lowered = revision.lower()
    if not SHORTEST_PREFIX <= len(lowered) <= COMMIT_LENGTH or set(lowered) - HEX_DIGITS:
        return None
    found = connection.execute(_OF_DIGITS, {"repo": repo.id, "digits": lowered}).all()
    if len(found) > 1:
        raise InputError("several commits begin so", where="revision", found=revision, expected="more of its digits")
    return commit_of(found[0]) if found else None


def _known(connection: Connection, repo: Repo) -> list[str]:
    """Names that may have been meant: refs as people write them, and the newest commits."""
    named = select(refs.c.name).where(refs.c.repo_id == repo.id).order_by(refs.c.created_at.desc())
    newest = select(commits.c.id).where(commits.c.repo_id == repo.id).order_by(commits.c.key.desc())
    found = connection.execute(named.limit(NAMES_TO_SUGGEST_FROM)).scalars()
    names = [name.removeprefix(HEADS).removeprefix(TAGS) for name in found]
    return [MAIN, *names, *connection.execute(newest.limit(NAMES_TO_SUGGEST_FROM)).scalars()]
