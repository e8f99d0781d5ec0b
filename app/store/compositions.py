"""Compositions: asked for once, built once, whoever asks again."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, insert, select, text, true, update
from sqlalchemy.exc import IntegrityError

from app.store.blob_records import add_blob, hold_blobs
from app.store.commits import write_commit
from app.store.job_rows import insert_job, lock_family, settle
from app.store.positions import after_newest, cursor_of
from app.store.records import (
    ANY_NAMESPACE,
    Commit,
    Composition,
    FileEntry,
    Job,
    JobState,
    Json,
    Page,
    PlannedFile,
    Repo,
    Token,
)
from app.store.repos import find_repo, insert_repo, visible_to
from app.store.revisions import COMMIT_LENGTH
from app.store.subject import Subject, new_id, now
from app.store.tables import NOT_OVER, composition_names, compositions, repos
from merge_core.errors import ConflictError

SHARD, FINALISER, INGEST = "shard", "composition", "ingest"


class CompositionRecords(Subject):
    """Recipes, what became of them, and the jobs that build them."""

    def create_composition(
        self,
        name: str,
        recipe: Json,
        digest: str,
        plan: Json,
        shard_bytes: Sequence[int],
        *,
        private: bool = False,
        author: str = "",
        inputs: Collection[str] = (),
        files: Sequence[PlannedFile] = (),
        lazy: bool = False,
    ) -> Composition:
        """A composition with its repo, its finaliser (`job_id`) and a job per shard, queued unless it is `lazy`.

        The blobs `inputs`, and those that `files` lie in, are kept until it is over, whatever becomes of the repos
        that have them.

        One with this digest that is under way or done is returned in its place, under the name it has.
        Raises ConflictError when the name belongs to a repo of another kind.
        """
        state: JobState = "planned" if lazy else "queued"
        wanted = Composition(
            new_id(), name, recipe, digest, state, plan, len(shard_bytes), private, author, "", None, None, now(), None
        )
        wanted = replace(wanted, files=tuple(files))
        try:
            with self._database.write() as connection:
                return _with_digest(connection, digest) or _insert(connection, wanted, shard_bytes, inputs)
        except IntegrityError:  # two at once on PostgreSQL: the other one was faster
            found = self.composition_with_digest(digest)
            if found is None:
                raise ConflictError("this name is being taken", where="name", found=name) from None
            return found

    def get_composition(self, id_or_name: str) -> Composition | None:
        """By id, or by `namespace/name`: there the newest."""
        column = compositions.c.name if "/" in id_or_name else compositions.c.id
        query = select(compositions).where(column == id_or_name).order_by(compositions.c.created_at.desc()).limit(1)
        with self._database.read() as connection:
            row = connection.execute(query).first()
            return None if row is None else composition_of(row)

    def composition_with_digest(self, digest: str) -> Composition | None:
        """The one under way or done with this digest."""
        with self._database.read() as connection:
            return _with_digest(connection, digest)

    def list_compositions(
        self, caller: Token | None, *, state: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[Composition]:
        """Those whose repo the caller may read, the newest first."""
        query = select(compositions).where(_may_see(caller))
        query = query if state is None else query.where(compositions.c.state == state)
        query = after_newest(query, compositions, cursor).limit(limit + 1)
        with self._database.read() as connection:
            found = [composition_of(row) for row in connection.execute(query)]
        return Page(tuple(found[:limit]), cursor_of(found[limit - 1]) if len(found) > limit else None)

    def publish_composition(self, job: Job, token: str, files: Sequence[FileEntry], message: str) -> Commit:
        """Commit the files, mark the composition and its finaliser done: all of it, or nothing.

        They will be looked at, as anything that is published.
        Raises LeaseLostError when the job is no longer this process's to finish.
        """
        with self._database.write() as connection:
            row = lock_family(connection, job.id)
            composition = composition_of(_row(connection, compositions.c.job_id == job.id))
            others = connection.execute(_others(composition)).all()
            for entry in files:
                add_blob(connection, entry.sha256, entry.size)
            commit = _commit_files(connection, composition, files, message)
            for other in others:
                named = replace(composition, name=other.name, author=other.author)
                _commit_files(connection, named, files, message)
            for full_name in (composition.name, *(other.name for other in others)):
                look_at(connection, full_name, commit)
            result = {"repo": composition.name, "commit": commit.id}
            settle(connection, job.id, token, "done", result=result, done=row.total)
            ended: Mapping[str, Any] = {"state": "done", "commit_id": commit.id, "finished_at": now()}
            connection.execute(update(compositions).where(compositions.c.id == composition.id).values(ended))
            return commit


def look_at(connection: Connection, full_name: str, commit: Commit) -> None:
    """Queue a look at what was composed: a delta, or a checkpoint that others may be deltas of."""
    payload = {"repo": full_name, "commit": commit.id}
    insert_job(connection, INGEST, f"{full_name}@{commit.id}", full_name, payload)


def _insert(
    connection: Connection, wanted: Composition, shard_bytes: Sequence[int], inputs: Collection[str]
) -> Composition:
    reserve_repo(connection, wanted)
    new_job = partial(insert_job, connection, subject_id=wanted.id, repo=wanted.name, state=wanted.state)
    finaliser = new_job(FINALISER, payload={}, total=sum(shard_bytes))
    for shard, nbytes in enumerate(shard_bytes):
        new_job(SHARD, payload={"shard": shard}, parent_id=finaliser.id, total=nbytes)
    hold_blobs(connection, {*inputs, *(file.sha256 for file in wanted.files)}, finaliser.id)
    names = ("id", "name", "recipe", "digest", "state", "plan", "shard_count", "private", "author", "created_at")
    values = {name: getattr(wanted, name) for name in names} | {"job_id": finaliser.id}
    values |= {"files": [asdict(file) for file in wanted.files] or None}
    return composition_of(connection.execute(insert(compositions).values(values).returning(compositions)).one())


def reserve_repo(connection: Connection, wanted: Composition) -> Repo:
    """The repo that a composition's files go to, made when there is none; ConflictError for one of another kind."""
    namespace, name = wanted.name.split("/", 1)
    repo = find_repo(connection, namespace, name)
    if repo is None:
        repo = insert_repo(connection, namespace, name, wanted.private, "composition")
    if repo.head and repo.kind != "composition":
        expected = "a new name, or that of a composition"
        raise ConflictError("this name is taken", where="name", found=f"a repo of kind {repo.kind}", expected=expected)
    changed = {"kind": "composition", "private": repo.private or wanted.private, "awaits": wanted.id}
    connection.execute(update(repos).where(repos.c.id == repo.id).values(changed))
    return repo


def _commit_files(connection: Connection, composition: Composition, files: Sequence[FileEntry], message: str) -> Commit:
    repo = find_repo(connection, *composition.name.split("/", 1))
    assert repo is not None, "deleting a repo cancels its jobs, so no lease is left to publish with"
    changes = {entry.path: entry for entry in files}
    return write_commit(
        connection,
        repo.id,
        changes,
        message,
        composition.author,
        commit_id=composition.digest[:COMMIT_LENGTH],
        replace_all=True,
    )


def _with_digest(connection: Connection, digest: str) -> Composition | None:
    row = connection.execute(select(compositions).where(compositions.c.digest == digest, text(NOT_OVER))).one_or_none()
    return None if row is None else composition_of(row)


def _row(connection: Connection, condition: ColumnElement[bool]) -> Row[Any]:
    """The row, which stays as it is until the transaction ends."""
    return connection.execute(select(compositions).where(condition).with_for_update()).one()


def _others(composition: Composition) -> Select[Any]:
    return select(composition_names).where(composition_names.c.composition_id == composition.id)


def _may_see(caller: Token | None) -> ColumnElement[bool]:
    if caller is not None and ANY_NAMESPACE in caller.namespaces:
        return true()
    same_repo = and_(compositions.c.name == repos.c.namespace + "/" + repos.c.name, visible_to(caller))
    return exists().where(same_repo)


def composition_of(row: Row[Any]) -> Composition:
    """The record in a row."""
    values = dict(row._mapping)
    values["files"] = tuple(PlannedFile(**file) for file in values["files"] or ())
    return Composition(**{"commit" if name == "commit_id" else name: value for name, value in values.items()})
