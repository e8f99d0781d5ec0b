"""A composition under way, asked for under more names than one: each gets the files when they are built."""

from dataclasses import replace

from sqlalchemy import Connection, delete, select, update

from app.store.compositions import composition_of, reserve_repo
from app.store.database import dialect_of
from app.store.records import OPEN_STATES, Composition
from app.store.subject import Subject
from app.store.tables import composition_names, compositions, jobs
from merge_core.errors import NotFoundError


class CompositionNames(Subject):
    """Names beside a composition's own."""

    def add_name(self, composition: Composition, name: str, *, private: bool, author: str) -> Composition:
        """The composition as it is now, under `name`; while it is open, its files will be there too.

        Raises ConflictError when the name belongs to a repo of another kind.
        """
        with self._database.write() as connection:
            row = select(compositions).where(compositions.c.id == composition.id).with_for_update()
            found = connection.execute(row).one_or_none()
            if found is None:
                raise NotFoundError("the composition is gone", where="composition", found=composition.id)
            named = replace(composition_of(found), name=name)
            if named.is_open:
                reserve_repo(connection, replace(named, private=private))
            if named.is_open and name != found.name:
                values = {"composition_id": found.id, "name": name, "private": private, "author": author}
                connection.execute(
                    dialect_of(connection).insert(composition_names).values(values).on_conflict_do_nothing()
                )
            return named

    def awaited_as(self, name: str) -> Composition | None:
        """The open composition that was asked for under this name beside its own."""
        joined = compositions.join(composition_names, composition_names.c.composition_id == compositions.c.id)
        query = select(compositions).select_from(joined)
        query = query.where(composition_names.c.name == name, compositions.c.state.in_(OPEN_STATES))
        with self._database.read() as connection:
            row = connection.execute(query.order_by(compositions.c.created_at.desc()).limit(1)).first()
            return None if row is None else replace(composition_of(row), name=name)

    def names_of(self, composition: Composition) -> list[str]:
        """Its own name, then the others."""
        query = select(composition_names.c.name).where(composition_names.c.composition_id == composition.id)
        with self._database.read() as connection:
            return [composition.name, *sorted(connection.execute(query).scalars())]


def give_up_name(connection: Connection, name: str) -> None:
    """Take a name from all that is under way, inside the caller's transaction; what has another goes on under that."""
    connection.execute(delete(composition_names).where(composition_names.c.name == name))
    joined = compositions.join(composition_names, composition_names.c.composition_id == compositions.c.id)
    others = select(compositions.c.id, compositions.c.job_id, composition_names).select_from(joined)
    mine = (compositions.c.name == name) & compositions.c.state.in_(OPEN_STATES)
    for row in connection.execute(others.where(mine).order_by(composition_names.c.name)).all():
        taken_on = {"name": row.name, "private": row.private, "author": row.author}
        still_mine = (compositions.c.id == row.id) & (compositions.c.name == name)
        if connection.execute(update(compositions).where(still_mine).values(taken_on)).rowcount:
            family = (jobs.c.id == row.job_id) | (jobs.c.parent_id == row.job_id)
            connection.execute(update(jobs).where(family).values(repo=row.name))
            is_own = (composition_names.c.composition_id == row.id) & (composition_names.c.name == row.name)
            connection.execute(delete(composition_names).where(is_own))
