"""Repos by what they are and when they changed, in the orders that lists are asked for."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, literal, select, tuple_

from app.store.columns import EPOCH, MICROSECOND
from app.store.records import FileEntry, Page, Repo, Token
from app.store.repos import repo_of, visible_to
from app.store.subject import Subject
from app.store.tables import commits, files, repos
from merge_core.errors import InputError

Order = Literal["name", "created_at", "updated_at"]


@dataclass(frozen=True, slots=True)
class RepoWish:
    """Which repos are looked for, and how they are sorted. `search` is a part of `namespace/name`, in any case."""

    namespace: str | None = None
    search: str | None = None
    gated: bool | None = None
    order: Order = "name"
    descending: bool = False

    def cursor_at(self, repo: Repo) -> str:
        """What asks for the repos after this one."""
        if self.order == "name":
            return repo.full_name
        moment = repo.created_at if self.order == "created_at" else repo.updated_at
        return f"{(moment - EPOCH) // MICROSECOND}/{repo.id}"


class RepoSearch(Subject):
    """Looking for repos."""

    def search_repos(
        self, caller: Token | None, wish: RepoWish, limit: int = 100, cursor: str | None = None
    ) -> Page[Repo]:
        """What the caller may read of what is looked for."""
        query = _matching(wish).where(visible_to(caller)).limit(limit + 1)
        if cursor is not None:
            query = query.where(_after(wish, cursor))
        with self._database.read() as connection:
            found = [repo_of(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), wish.cursor_at(found[limit - 1]) if len(found) > limit else None)

    def head_files(self, repo_ids: Collection[int], path: str) -> dict[int, FileEntry]:
        """The file at one path in the newest commit of `main` of each repo that has it."""
        newest = (commits.c.repo_id == repos.c.id) & (commits.c.id == repos.c.head)
        query = (
            select(repos.c.id, files.c.sha256, files.c.size)
            .join(commits, newest)
            .join(files, files.c.commit_key == commits.c.key)
            .where(repos.c.id.in_(sorted(repo_ids)), files.c.path == path)
        )
        with self._database.read() as connection:
            return {row.id: FileEntry(path, row.sha256, row.size) for row in connection.execute(query)}


def _matching(wish: RepoWish) -> Select[Any]:
    query = select(repos).order_by(*(key.desc() if wish.descending else key.asc() for key in _keys(wish)))
    if wish.namespace is not None:
        query = query.where(repos.c.namespace == wish.namespace)
    if wish.gated is not None:
        query = query.where((repos.c.gated != "") if wish.gated else (repos.c.gated == ""))
    if wish.search:
        query = query.where((repos.c.namespace + "/" + repos.c.name).icontains(wish.search, autoescape=True))
    return query


def _keys(wish: RepoWish) -> list[ColumnElement[Any]]:
    return [repos.c.namespace, repos.c.name] if wish.order == "name" else [repos.c[wish.order], repos.c.id]


def _after(wish: RepoWish, cursor: str) -> ColumnElement[bool]:
    here, there = tuple_(*_keys(wish)), tuple_(*_position(wish, cursor))
    return here < there if wish.descending else here > there


def _position(wish: RepoWish, cursor: str) -> list[ColumnElement[Any]]:
    first, _, second = cursor.partition("/")
    if wish.order == "name":
        return [literal(first), literal(second)]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in (first, second)):
        raise InputError("not a place in this list", where="query cursor", found=repr(cursor))
    try:
        moment = EPOCH + timedelta(microseconds=int(first))
    except OverflowError:
        raise InputError("not a place in this list", where="query cursor", found=repr(cursor)) from None
    return [literal(moment, repos.c[wish.order].type), literal(int(second))]
