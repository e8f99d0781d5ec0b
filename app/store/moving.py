"""Another name for a repo: whatever goes by the old one goes along."""

import json

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from app.store.job_rows import insert_job, settle_family
from app.store.pulls import PULL
from app.store.records import DUE_STATES, OPEN_STATES, Repo
from app.store.repos import changed_repo, find_repo
from app.store.subject import Subject
from app.store.tables import composition_names, compositions, deltas, jobs
from merge_core.errors import ConflictError, NotFoundError


class Moving(Subject):
    """Takes things elsewhere."""

    def move_repo(self, repo: Repo, namespace: str, name: str) -> Repo:
        """The repo under its new name; the old one is free, and recipes that have it find nothing.

        Its history, refs, jobs and compositions go along. Raises ConflictError when the name is taken, or a
        composition under way reads the repo: what that was promised to be made of has the old name.
        """
        old, new = repo.full_name, f"{namespace}/{name}"
        try:
            with self._database.write() as connection:
                _check_still(connection, repo)
                _move_jobs(connection, old, new)
                _hold_compositions(connection, old)
                for column in (compositions.c.name, composition_names.c.name, deltas.c.base_repo):
                    connection.execute(update(column.table).where(column == old).values({column: new}))
                _check_unread(connection, old)
                return changed_repo(connection, repo, {"namespace": namespace, "name": name})
        except IntegrityError:
            raise ConflictError("this name is taken", where="repo", found=new) from None


def _check_still(connection: Connection, repo: Repo) -> None:
    found = find_repo(connection, repo.namespace, repo.name)
    if found is None or found.id != repo.id:
        raise NotFoundError("no such repo", where="repo", found=repo.full_name)


def _move_jobs(connection: Connection, old: str, new: str) -> None:
    """Give the jobs the new name. What is open and has the old one in its orders begins again.

    Not a pull: the name that it was to bring is the old one.
    """
    mine = (jobs.c.repo == old) & jobs.c.parent_id.is_(None)
    # The first of each family is locked before the others, as whoever works on one does.
    roots = connection.execute(select(jobs).where(mine).order_by(jobs.c.id).with_for_update()).all()
    for row in roots:
        if row.state in OPEN_STATES and row.payload.get("repo") == old:
            settle_family(connection, row.id, "cancelled", None)
            if row.kind != PULL:
                subject = row.subject_id.replace(f"{old}@", f"{new}@", 1)
                insert_job(connection, row.kind, subject, new, {**row.payload, "repo": new})
    connection.execute(update(jobs).where(jobs.c.repo == old).values(repo=new))


def _hold_compositions(connection: Connection, full_name: str) -> None:
    """Nobody publishes under the name, or under it too, until the transaction ends."""
    too = select(composition_names.c.composition_id).where(composition_names.c.name == full_name)
    mine = (compositions.c.name == full_name) | compositions.c.id.in_(too)
    connection.execute(select(compositions.c.id).where(mine).order_by(compositions.c.id).with_for_update()).all()


def _check_unread(connection: Connection, full_name: str) -> None:
    under_way = select(compositions.c.recipe).where(compositions.c.state.in_(DUE_STATES))
    if any(f'"{full_name}@' in json.dumps(recipe) for recipe in connection.execute(under_way).scalars()):
        raise ConflictError("a composition under way reads this repo", where="repo", found=full_name)
