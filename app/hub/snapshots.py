"""One revision of a repo as clients see it: a commit and its files."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.api.services import Services
from app.hub.errors import MissingEntryError, MissingRevisionError
from app.store.records import Commit, Repo
from merge_core.errors import InputError, NotFoundError, nearest

NO_COMMIT = "0" * 40
"""What clients are told to be the commit of a repo that has none: they insist on one."""


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """A file of a revision; `sha256` is None while its bytes are not known, and `mark` identifies them instead."""

    path: str
    size: int
    sha256: str | None
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A revision of a repo."""

    repo: Repo
    commit: str
    title: str
    created_at: datetime
    files: Mapping[str, SnapshotFile]

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
    if repo.head is None and revision in ("main", NO_COMMIT):
        return Snapshot(repo, NO_COMMIT, "", repo.created_at, {})
    return _built(pot, repo, _commit(pot, repo, revision))


def _commit(pot: Services, repo: Repo, revision: str) -> Commit:
    try:
        return pot.store.resolve_revision(repo, revision)
    except (NotFoundError, InputError) as error:
        raise MissingRevisionError(error.message, where="revision", found=revision, expected=error.expected) from None


def _built(pot: Services, repo: Repo, commit: Commit) -> Snapshot:
    files = {entry.path: SnapshotFile(entry.path, entry.size, entry.sha256) for entry in pot.store.tree(commit)}
    return Snapshot(repo, commit.id, commit.message, commit.created_at, files)
