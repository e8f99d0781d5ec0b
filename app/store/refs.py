"""Branches, tags and pull requests: names of commits that a repo has beside `main`."""

from sqlalchemy import Connection, Integer, cast, delete, func, insert, select

from app.store.commits import add_commit
from app.store.records import Commit, Ref, Repo
from app.store.repos import locked_repo
from app.store.revisions import HEADS, MAIN, MAIN_REF, PULLS, TAGS, resolve, tip_of
from app.store.subject import Subject, now
from app.store.tables import refs
from app.store.trees import Changes
from merge_core.errors import ConflictError, NotFoundError, nearest

WHAT = {HEADS: "branch", TAGS: "tag"}


class RefRecords(Subject):
    """Names of commits. Whoever lets callers choose one checks it with `app.names.check_branch`."""

    def branches(self, repo: Repo) -> list[Ref]:
        """By name, `main` before all others; it is there from the first commit on."""
        with self._database.read() as connection:
            main = _find(connection, repo, MAIN_REF)
            return [*([main] if main else []), *_listed(connection, repo, HEADS)]

    def tags(self, repo: Repo) -> list[Ref]:
        """By name."""
        with self._database.read() as connection:
            return _listed(connection, repo, TAGS)

    def pull_requests(self, repo: Repo) -> list[Ref]:
        """By number; the message is what each began with."""
        with self._database.read() as connection:
            return sorted(_listed(connection, repo, PULLS), key=lambda ref: int(ref.name))

    def create_branch(self, repo: Repo, name: str, revision: str = MAIN, *, exist_ok: bool = False) -> Ref:
        """A branch that begins at a revision. Raises ConflictError when it is there, unless that is all right."""
        with self._database.write() as connection:
            locked = locked_repo(connection, repo.id)
            found = _find(connection, locked, HEADS + name)
            if found is not None and not exist_ok:
                raise ConflictError("this branch exists", where="branch", found=name)
            return found or _insert(connection, locked, HEADS + name, resolve(connection, locked, revision), None)

    def create_empty_branch(self, repo: Repo, name: str, author: str) -> Ref:
        """A branch that begins without files and without a parent. Raises ConflictError when it is there."""
        with self._database.write() as connection:
            locked = locked_repo(connection, repo.id)
            if name == MAIN or _find(connection, locked, HEADS + name) is not None:
                raise ConflictError("this branch exists", where="branch", found=name)
            return _insert(
                connection, locked, HEADS + name, add_commit(connection, locked, None, {}, "Begin", author), None
            )

    def delete_branch(self, repo: Repo, name: str) -> None:
        """Forget the name; commits stay. Raises ConflictError for `main`, NotFoundError where there is none."""
        if name == MAIN:
            raise ConflictError("this branch stays as long as the repo", where="branch", found=MAIN)
        self._delete(repo, HEADS, name)

    def create_tag(self, repo: Repo, name: str, revision: str = MAIN, message: str | None = None) -> Ref:
        """A tag of the commit that a revision names. Raises ConflictError when it is there, or would hide as `main`."""
        with self._database.write() as connection:
            locked = locked_repo(connection, repo.id)
            if name == MAIN or _find(connection, repo, TAGS + name) is not None:
                raise ConflictError("this name is taken", where="tag", found=name)
            return _insert(connection, locked, TAGS + name, resolve(connection, locked, revision), message)

    def delete_tag(self, repo: Repo, name: str) -> None:
        """Forget the name. Raises NotFoundError where there is none."""
        self._delete(repo, TAGS, name)

    def open_pull_request(
        self, repo: Repo, changes: Changes, message: str, author: str, start: str = MAIN
    ) -> tuple[Ref, Commit]:
        """A commit of `changes` on `start`, on a branch of its own: `refs/pr/1` and so on, without gaps.

        Without changes the newest commit of `start` itself is what it names.
        """
        with self._database.write() as connection:
            locked = locked_repo(connection, repo.id)
            is_first = locked.head is None and start in (MAIN, MAIN_REF)
            parent = None if is_first else resolve(connection, locked, start).id
            commit = add_commit(connection, locked, parent, changes, message, author)
            name = f"{PULLS}{_newest_number(connection, repo) + 1}"
            return _insert(connection, locked, name, commit, message), commit

    def _delete(self, repo: Repo, kind: str, name: str) -> None:
        with self._database.write() as connection:
            locked_repo(connection, repo.id)
            same = (refs.c.repo_id == repo.id) & (refs.c.name == kind + name)
            if not connection.execute(delete(refs).where(same)).rowcount:
                what, known = WHAT[kind], [ref.name for ref in _listed(connection, repo, kind)]
                raise NotFoundError(f"no such {what}", where=what, found=name, expected=nearest(name, known))


def _listed(connection: Connection, repo: Repo, kind: str) -> list[Ref]:
    query = select(refs).where(refs.c.repo_id == repo.id, refs.c.name.startswith(kind))
    found = [Ref(row.name, row.commit_id, row.message, row.created_at) for row in connection.execute(query)]
    return sorted(found, key=lambda ref: ref.ref)  # databases disagree on the order of text


def _find(connection: Connection, repo: Repo, ref: str) -> Ref | None:
    if ref == MAIN_REF:
        head = tip_of(connection, repo, ref)
        return None if head is None else Ref(ref, head, None, repo.created_at)
    row = connection.execute(select(refs).where(refs.c.repo_id == repo.id, refs.c.name == ref)).one_or_none()
    return None if row is None else Ref(row.name, row.commit_id, row.message, row.created_at)


def _insert(connection: Connection, repo: Repo, ref: str, commit: Commit, message: str | None) -> Ref:
    new = Ref(ref, commit.id, message, now())
    values = {"repo_id": repo.id, "name": ref, "commit_id": new.commit, "message": message}
    connection.execute(insert(refs).values(**values, created_at=new.created_at))
    return new


def _newest_number(connection: Connection, repo: Repo) -> int:
    number = func.max(cast(func.substr(refs.c.name, len(PULLS) + 1), Integer))
    query = select(number).where(refs.c.repo_id == repo.id, refs.c.name.startswith(PULLS))
    return connection.execute(query).scalar_one() or 0
