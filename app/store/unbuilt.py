"""Compositions whose files are wanted before they are built: which one a name means, and how far its files are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, case, or_, select

from app.store.compositions import composition_of
from app.store.job_rows import lock_family, make_due
from app.store.records import OPEN_STATES, Composition, JobState, Json, Ready, Repo
from app.store.subject import Subject
from app.store.tables import composition_names, compositions, jobs


@dataclass(frozen=True, slots=True)
class ShardProgress:
    """What there is of a shard: the blob that it has become, or what can be read of the file being written."""

    sha256: str | None
    ready: Ready | None


@dataclass(frozen=True, slots=True)
class BuildProgress:
    """How far a composition is; `names` are the repos that its files are for."""

    state: JobState
    error: Json | None
    names: frozenset[str]
    shards: Mapping[int, ShardProgress]


class UnbuiltRecords(Subject):
    """Compositions that are not built."""

    def start_composition(self, composition: Composition) -> bool:
        """Let workers have what is only planned; False when they have it already, or it is over."""
        with self._database.write() as connection:
            is_planned = bool(lock_family(connection, composition.job_id).state == "planned")
            if is_planned:
                make_due(connection, composition.job_id)
            return is_planned

    def awaited_by(self, repo: Repo) -> Composition | None:
        """The composition that was asked for last under the repo's name, unless it is built; also one that failed."""
        query = select(compositions).where(compositions.c.id == repo.awaits, compositions.c.state != "done")
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
            return None if row is None else replace(composition_of(row), name=repo.full_name)

    def asked_at(self, name: str, commit: str) -> Composition | None:
        """The one under this name whose commit begins with these digits; one that failed only for want of others."""
        starts_so = compositions.c.digest.startswith(commit, autoescape=True)
        goes_on = case((compositions.c.state.in_((*OPEN_STATES, "done")), 0), else_=1)
        query = select(compositions).where(_asked_under(name), starts_so)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(goes_on, compositions.c.created_at.desc()).limit(1)).first()
            return None if row is None else replace(composition_of(row), name=name)

    def build_progress(self, composition: Composition) -> BuildProgress | None:
        """As it is now; None when it is gone."""
        columns = (compositions.c.name, compositions.c.state, compositions.c.error)
        others = select(composition_names.c.name).where(composition_names.c.composition_id == composition.id)
        made = (jobs.c.payload, jobs.c.state, jobs.c.result, jobs.c.ready, jobs.c.place)
        with self._database.read() as connection:
            row = connection.execute(select(*columns).where(compositions.c.id == composition.id)).one_or_none()
            if row is None:
                return None
            shards = connection.execute(select(*made).where(jobs.c.parent_id == composition.job_id)).all()
            names = frozenset({row.name, *connection.execute(others).scalars()})
        progress = {
            int(shard.payload["shard"]): ShardProgress(
                shard.result["sha256"] if shard.state == "done" and shard.result else None,
                Ready(shard.place, shard.ready) if shard.place else None,
            )
            for shard in shards
        }
        return BuildProgress(row.state, row.error, names, progress)


def _asked_under(name: str) -> ColumnElement[bool]:
    beside = select(composition_names.c.composition_id).where(composition_names.c.name == name)
    return or_(compositions.c.name == name, compositions.c.id.in_(beside))
