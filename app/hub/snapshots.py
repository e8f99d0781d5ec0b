"""One revision of a repo as clients see it: a commit and its files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256

from app.api.services import Services
from app.hub.errors import MissingEntryError, MissingRevisionError
from app.store.commits import NO_COMMIT
from app.store.records import Commit, Composition, PlannedFile, Repo
from app.store.revisions import COMMIT_LENGTH, MAIN, MAIN_REF
from app.store.store import Store
from merge_core.errors import InputError, NotFoundError, StockpotError, nearest

KEPT_TREES = 16
DIGITS = re.compile(r"[0-9a-fA-F]{7,40}")


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a revision; `sha256` is None while its bytes are not known, and `mark` identifies them instead.

    `planned` is what is known of a file that is not built.
    """

    path: str
    size: int
    sha256: str | None
    mark: str = ""
    planned: PlannedFile | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A revision of a repo; `unbuilt` is the composition that its files are to be made by, or were to be."""

    repo: Repo
    commit: str
    title: str
    created_at: datetime
    files: Mapping[str, SnapshotFile]
    unbuilt: Composition | None = None

    def file(self, path: str) -> SnapshotFile:
        """The file at a path. Raises MissingEntryError."""
        found = self.files.get(path)
        if found is None:
            raise self.missing(path)
        return found

    def missing(self, path: str) -> MissingEntryError:
        """The error for a path that is not here."""
        error = MissingEntryError(
            f"no such file in '{self.repo.full_name}'", where="path", found=path, expected=nearest(path, self.files)
        )
        error.commit = self.commit
        return error


def open_snapshot(pot: Services, repo: Repo, revision: str) -> Snapshot:
    """The revision of a repo that the caller may see. Raises MissingRevisionError."""
    if revision in (MAIN, MAIN_REF):
        composition = pot.store.awaited_by(repo)
        if composition is not None:
            return _unbuilt(repo, composition)
    if repo.head is None and revision in (MAIN, NO_COMMIT):
        return Snapshot(repo, NO_COMMIT, "", repo.created_at, {})
    try:
        return _built(pot, repo, _commit(pot, repo, revision))
    except MissingRevisionError:
        composition = pot.store.asked_at(repo.full_name, revision.lower()) if DIGITS.fullmatch(revision) else None
        if composition is None:
            raise
    if composition.commit is not None:  # the repo had the same files before, under another commit
        return _built(pot, repo, _commit(pot, repo, composition.commit))
    return _unbuilt(repo, composition)


def _commit(pot: Services, repo: Repo, revision: str) -> Commit:
    try:
        return pot.store.resolve_revision(repo, revision)
    except (NotFoundError, InputError) as error:
        raise MissingRevisionError(error.message, where="revision", found=revision, expected=error.expected) from None


def _built(pot: Services, repo: Repo, commit: Commit) -> Snapshot:
    return Snapshot(repo, commit.id, commit.message, commit.created_at, _files(pot.store, commit))


@lru_cache(maxsize=KEPT_TREES)
def _files(store: Store, commit: Commit) -> Mapping[str, SnapshotFile]:
    """A commit never changes, and a client that fetches a whole repo asks twice for each file."""
    return {entry.path: SnapshotFile(entry.path, entry.size, entry.sha256) for entry in store.tree(commit)}


def _unbuilt(repo: Repo, composition: Composition) -> Snapshot:
    """The files as they are foreseen. Of what failed nothing is here any more: see app/hub/resolve.py."""
    commit = composition.digest[:COMMIT_LENGTH]
    if not composition.files:
        raise MissingRevisionError(_fate(composition), where="revision", found=commit)
    files = {
        file.path: SnapshotFile(
            file.path,
            file.size,
            file.sha256 if file.shard is None and composition.is_open else None,
            mark_of(commit, file.path),
            file,
        )
        for file in sorted(composition.files, key=lambda file: file.path)
    }
    return Snapshot(repo, commit, f"Compose {commit[:12]}", composition.created_at, files, composition)


def mark_of(commit: str, path: str) -> str:
    """What identifies a file of a composition before its bytes are known: they follow from the commit."""
    return sha256(f"{commit}/{path}".encode()).hexdigest()


def _fate(composition: Composition) -> str:
    """Why a composition has no files."""
    if composition.is_open:
        return f"the composition is {composition.state}, and its files are known once it is built"
    return why_not(composition)


def why_not(composition: Composition) -> str:
    """What became of a composition that will not be built, and how to get one."""
    again = "compose it again, or ask for an earlier commit by its id"
    if composition.error is None:
        return f"the composition was cancelled; {again}"
    parts = {part: str(composition.error.get(part) or "") or None for part in ("where", "found", "expected")}
    cause = StockpotError(str(composition.error.get("message", "")), **parts)
    return f"the composition failed: {cause}; {again}"
