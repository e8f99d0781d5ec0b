"""From a recipe's source, `namespace/name@revision`, to files on this machine."""

from pathlib import Path

from app.store.blobs import Blobs
from app.store.records import Commit, FileEntry, Repo, Token, may_read, may_read_files
from app.store.revisions import MAIN
from app.store.store import Store
from merge_core.errors import GatedError, NotFoundError, nearest
from merge_core.sources import Source


class StoreResolve:
    """Resolves sources for one caller, to whom a private repo of others looks like none. None: no token."""

    def __init__(self, store: Store, blobs: Blobs, caller: Token | None) -> None:
        self._store = store
        self._blobs = blobs
        self._caller = caller

    def __call__(self, name: str) -> Source:
        """The source pinned to its commit. Raises NotFoundError, which names what was not found and what is near."""
        return self.source(*self.pin(name))

    def source(self, repo: Repo, commit: Commit) -> Source:
        """A commit that the caller may read."""
        entries = self._store.tree(commit)
        files = {entry.path: self._file(entry) for entry in entries}
        hashes = {entry.path: entry.sha256 for entry in entries}
        return Source(f"{repo.full_name}@{commit.id}", files, hashes)

    def _file(self, entry: FileEntry) -> Path:
        return self._blobs.local_path(entry.sha256)

    def pin(self, name: str) -> tuple[Repo, Commit]:
        """The repo and the commit that a source names."""
        full_name, _, revision = name.partition("@")
        repo = self._repo(full_name)
        return repo, self._store.resolve_revision(repo, revision or MAIN)

    def _repo(self, full_name: str) -> Repo:
        namespace, _, name = full_name.partition("/")
        repo = self._store.get_repo(namespace, name)
        if repo is None or not may_read(self._caller, repo):
            known = self._store.known_names(self._caller)
            expected = nearest(full_name, known)
            raise NotFoundError("no such repo", where="source", found=repr(full_name), expected=expected)
        check_gate(self._caller, repo, "source")
        return repo


class PlanningResolve(StoreResolve):
    """The same for who only plans: of checkpoints elsewhere the weights stay there."""

    def _file(self, entry: FileEntry) -> Path:
        return self._blobs.outline(entry.sha256, entry.path)


def check_gate(caller: Token | None, repo: Repo, where: str) -> None:
    """Raises GatedError when the caller may see the repo, and not read its files."""
    if not may_read_files(caller, repo):
        expected = f"a token of the namespace '{repo.namespace}'"
        raise GatedError(
            "this repo's files are for its namespace", where=where, found=repo.full_name, expected=expected
        )
