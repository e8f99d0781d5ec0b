"""Putting files into repos, whichever way they come: whose bytes they are, the commit, and the look at it."""

from app.api.services import Services
from app.names import check_path, check_sha256
from app.store.records import Commit, FileEntry, Ref, Repo, Token
from app.store.revisions import MAIN
from app.store.trees import Changes
from merge_core.errors import ConflictError, InputError


def commit_changes(
    pot: Services,
    token: Token,
    repo: Repo,
    changes: Changes,
    message: str,
    parent: str | None = None,
    branch: str = MAIN,
) -> tuple[Commit, bool]:
    """Commit and have it looked at; the second part is False when the commit was there before."""
    commit, job = pot.store.publish(repo, changes, message, token, parent, branch)
    if job is not None:
        pot.jobs.enqueue_all([job])
    return commit, job is not None


def commit_first(pot: Services, token: Token, namespace: str, name: str, changes: Changes, message: str) -> Commit:
    """The same in a repo that is made for it. Raises ConflictError when there is one by now."""
    commit, job = pot.store.publish_first(namespace, name, changes, message, token)
    pot.jobs.enqueue_all([job])
    return commit


def propose_changes(
    pot: Services, token: Token, repo: Repo, changes: Changes, message: str, start: str
) -> tuple[Ref, Commit]:
    """The same as a pull request, which begins at the revision `start`."""
    pull, commit = pot.store.open_pull_request(repo, changes, message, token.name, start)
    _settle(pot, token, changes)
    pot.jobs.submit_ingest(repo, commit)
    return pull, commit


def refuse_computed(repo: Repo) -> None:
    """Raises ConflictError for a composition's repo, which takes no files."""
    if repo.kind == "composition":
        raise ConflictError("this repo's files are computed from a recipe", where=f"repo '{repo.full_name}'")


def own_entry(pot: Services, token: Token, path: str, sha256: str, where: str) -> FileEntry:
    """A file of bytes that are here, and that the caller has sent or may read; to others they look like none."""
    path, sha256 = check_path(path, f"{where}.path"), check_sha256(sha256, f"{where}.sha256")
    size = pot.store.readable_size(token, sha256)
    if size is None:
        raise InputError(
            "these bytes are not here, or not yours",
            where=f"{where}.sha256",
            found=sha256,
            expected="bytes sent before",
        )
    return FileEntry(path, sha256, size)


def _settle(pot: Services, token: Token, changes: Changes) -> None:
    pot.store.settle_blobs([entry.sha256 for entry in changes.values() if entry is not None], token)
