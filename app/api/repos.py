"""Repos and their commits: list, look, create, delete, and commit several files at once."""

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Response
from pydantic import Field
from starlette.concurrency import run_in_threadpool

from app.api.auth import Reader, Writer, check_write, readable_repo
from app.api.bodies import Body, body_of, documented
from app.api.committing import commit_changes, commit_first, own_entry, refuse_computed
from app.api.paging import Cursor, Limit
from app.api.services import Pot, Services
from app.api.shapes import (
    CommitShape,
    FileShape,
    Listing,
    Missing,
    RefShape,
    RefsShape,
    RepoDetail,
    RepoShape,
    TreeShape,
)
from app.names import check_distinct, check_name, check_no_file_is_folder, check_path, check_revision, check_sha256
from app.store.records import FileEntry, Repo, RepoKind, Token, may_read_files
from app.store.resolve import check_gate
from app.store.revisions import MAIN, MAIN_REF, branch_ref
from merge_core.errors import ConflictError, InputError, NotFoundError, StaleParentError
from merge_core.formats import check_file

router = APIRouter(prefix="/v1/repos", tags=["repos"])

MOST_FILES = 10_000
COMMIT_BODY_BYTES = 16 << 20
Revision = Annotated[
    str, Query(description="a branch, a tag, `refs/pr/1`, a commit id, or at least 7 of its first digits")
]


class RepoWish(Body):
    """A repo to create."""

    private: bool = Field(False, description="hidden from tokens of other namespaces")


class Announced(Body):
    """A file that the caller has, with its hash and size."""

    path: str
    sha256: str
    size: int = Field(ge=0)


class Offer(Body):
    """The files of a coming commit."""

    files: list[Announced] = Field(max_length=MOST_FILES)


class Uploaded(Body):
    """A file whose bytes are here."""

    path: str
    sha256: str


class CommitWish(Body):
    """One commit of several files."""

    message: str = Field("Upload files", min_length=1, max_length=4000)
    branch: str = Field(MAIN, description="a branch that is there, or `refs/pr/1`")
    parent: str | None = Field(None, description="refuse with 409 when this commit is not the newest of the branch")
    files: list[Uploaded] = Field([], max_length=MOST_FILES)
    deletes: list[str] = Field([], max_length=MOST_FILES, description="paths to remove")


@router.get("", summary="List the repos that the caller may read")
def listed(
    token: Reader,
    pot: Pot,
    namespace: str | None = None,
    kind: RepoKind | None = None,
    search: Annotated[str | None, Query(max_length=200, description="a part of namespace/name, in any case")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listing[RepoShape]:
    """By name; private repos of other namespaces are left out."""
    page = pot.store.list_repos(token, namespace=namespace, kind=kind, search=search, limit=limit, cursor=cursor)
    return Listing(items=[RepoShape.of(repo) for repo in page.items], next_cursor=page.next_cursor)


@router.get("/{namespace}/{name}", summary="A repo with the files of one revision")
def shown(token: Reader, pot: Pot, namespace: str, name: str, revision: Revision = MAIN) -> RepoDetail:
    """`commit` is the revision's commit, null for a repo without commits. Of a gated repo others see no files."""
    repo = readable_repo(pot, token, namespace, name)
    fields = RepoShape.of(repo).model_dump()
    if repo.head is None and revision == MAIN:
        return RepoDetail(**fields, commit=None, files=[])
    commit = pot.store.resolve_revision(repo, check_revision(revision))
    entries = pot.store.tree(commit) if may_read_files(token, repo) else []
    return RepoDetail(**fields, commit=commit.id, files=[FileShape.of(file) for file in entries])


@router.put(
    "/{namespace}/{name}", summary="Create a repo", responses={201: {"model": RepoShape}}, **documented(RepoWish)
)
def created(
    token: Writer,
    pot: Pot,
    namespace: str,
    name: str,
    wish: Annotated[RepoWish, Depends(body_of(RepoWish))],
    response: Response,
) -> RepoShape:
    """Only private repos need this: publishing a file creates a public one. 200 when it is there as wished."""
    check_write(token, check_name(namespace, "path namespace"))
    before = pot.store.get_repo(namespace, check_name(name, "path name"))
    repo = pot.store.ensure_repo(namespace, name, wish.private)
    if repo.private != wish.private:
        found = "a private repo" if repo.private else "a public repo"
        raise ConflictError("this repo exists", where=f"repo '{repo.full_name}'", found=found)
    response.status_code = 201 if before is None else 200
    return RepoShape.of(repo)


@router.delete("/{namespace}/{name}", status_code=204, summary="Delete a repo with all its commits")
def deleted(token: Writer, pot: Pot, namespace: str, name: str) -> None:
    """What was composed from it stays."""
    repo = readable_repo(pot, token, namespace, name)
    check_write(token, namespace)
    pot.store.delete_repo(repo)


@router.get("/{namespace}/{name}/files", summary="The files of one revision")
def tree(token: Reader, pot: Pot, namespace: str, name: str, revision: Revision = MAIN) -> TreeShape:
    """By path, with sha256 and size."""
    repo = readable_repo(pot, token, namespace, name)
    check_gate(token, repo, f"repo '{repo.full_name}'")
    commit = pot.store.resolve_revision(repo, check_revision(revision))
    return TreeShape.at(commit.id, pot.store.tree(commit))


@router.get("/{namespace}/{name}/commits", summary="The history up to a revision")
def history(
    token: Reader,
    pot: Pot,
    namespace: str,
    name: str,
    revision: Revision = MAIN,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listing[CommitShape]:
    """The newest first, each the parent of the one before; a page goes on at `cursor`."""
    repo = readable_repo(pot, token, namespace, name)
    commits = pot.store.commits(repo, check_revision(cursor or revision), limit)
    return Listing(items=[CommitShape.of(commit) for commit in commits], next_cursor=commits[-1].parent)


@router.get("/{namespace}/{name}/refs", summary="Branches, tags and pull requests")
def refs(token: Reader, pot: Pot, namespace: str, name: str) -> RefsShape:
    """`main` is the first of the branches, from the first commit on."""
    repo = readable_repo(pot, token, namespace, name)
    kinds = (pot.store.branches(repo), pot.store.tags(repo), pot.store.pull_requests(repo))
    branches, tags, pulls = ([RefShape.of(ref) for ref in kind] for kind in kinds)
    return RefsShape(branches=branches, tags=tags, pull_requests=pulls)


@router.post("/{namespace}/{name}/missing", summary="Ask which files must still be sent", **documented(Offer))
def missing(
    token: Writer,
    pot: Pot,
    namespace: str,
    name: str,
    offer: Annotated[Offer, Depends(body_of(Offer, limit=COMMIT_BODY_BYTES))],
) -> Missing:
    """A file counts as here only when the caller has sent its bytes before, or may read them in some repo."""
    check_write(token, check_name(namespace, "path namespace"))
    check_name(name, "path name")
    needed = [_announced(file, index) for index, file in enumerate(offer.files)]
    absent = [file for file in needed if not _is_here(pot, token, file)]
    pot.store.promise_blobs({file.sha256 for file in needed} - {file.sha256 for file in absent}, token)
    return Missing(missing=[FileShape.of(file) for file in absent])


@router.post("/{namespace}/{name}/commits", status_code=201, summary="Commit several files", **documented(CommitWish))
async def committed(
    token: Writer,
    pot: Pot,
    namespace: str,
    name: str,
    wish: Annotated[CommitWish, Depends(body_of(CommitWish, limit=COMMIT_BODY_BYTES))],
    response: Response,
) -> CommitShape:
    """All of them or none. The bytes are sent before, to `blobs/{sha256}`. 200 with the head when nothing changes."""
    check_write(token, check_name(namespace, "path namespace"))
    full_name = f"{namespace}/{check_name(name, 'path name')}"
    commit, is_new = await run_in_threadpool(_commit_wish, pot, token, full_name, wish)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/repos/{full_name}?revision={commit.id}"
    return commit


def _commit_wish(pot: Services, token: Token, full_name: str, wish: CommitWish) -> tuple[CommitShape, bool]:
    branch = check_revision(wish.branch, "branch")
    changes = _changes(pot, token, wish)
    for path, entry in changes.items():
        if entry is not None:
            check_file(path, pot.blobs.local_path(entry.sha256))
    return commit_files(pot, token, full_name, changes, wish.message, wish.parent, branch)


def commit_files(
    pot: Services,
    token: Token,
    full_name: str,
    changes: dict[str, FileEntry | None],
    message: str,
    parent: str | None = None,
    branch: str = MAIN,
) -> tuple[CommitShape, bool]:
    """Commit and have it looked at; creates the repo. The second part is False when the commit was there before."""
    namespace, name = full_name.split("/")
    repo = open_repo(pot, namespace, name)
    if repo is None:
        _check_first(full_name, changes, parent, branch)
        with suppress(ConflictError):  # somebody was faster
            return CommitShape.of(commit_first(pot, token, namespace, name, changes, message)), True
        repo = pot.store.require_repo(full_name)
        refuse_computed(repo)
    commit, is_new = commit_changes(pot, token, repo, changes, message, parent, branch)
    return CommitShape.of(commit), is_new


def _check_first(full_name: str, changes: dict[str, FileEntry | None], parent: str | None, branch: str) -> None:
    """Raises what speaks against a commit to a repo that is not there yet."""
    absent = next((path for path, entry in changes.items() if entry is None), None)
    if absent is not None:
        raise NotFoundError("no such file to delete", where=absent, found=f"no repo '{full_name}'")
    if parent is not None:
        raise StaleParentError("the repo has no commits yet", where="parent", found=parent, expected="no parent")
    if branch_ref(branch) != MAIN_REF:
        raise NotFoundError("no such branch", where="branch", found=branch, expected=f"'{MAIN}': the repo is new")


def open_repo(pot: Services, namespace: str, name: str) -> Repo | None:
    """The repo, if there is one, when files may be put into it; ConflictError for a composition's."""
    repo = pot.store.get_repo(namespace, name)
    if repo is not None:
        refuse_computed(repo)
    return repo


def _announced(file: Announced, index: int) -> FileEntry:
    path = check_path(file.path, f"files[{index}].path")
    return FileEntry(path, check_sha256(file.sha256, f"files[{index}].sha256"), file.size)


def _is_here(pot: Services, token: Token, file: FileEntry) -> bool:
    return pot.store.blob_size(file.sha256) == file.size and pot.store.may_read_blob(token, file.sha256)


def _changes(pot: Services, token: Token, wish: CommitWish) -> dict[str, FileEntry | None]:
    written = [
        own_entry(pot, token, file.path, file.sha256, f"files[{index}]") for index, file in enumerate(wish.files)
    ]
    deletes = [check_path(path, f"deletes[{index}]") for index, path in enumerate(wish.deletes)]
    check_distinct([*(file.path for file in written), *deletes], "files and deletes")
    check_no_file_is_folder([file.path for file in written], "files")
    if not written and not deletes:
        raise InputError("a commit changes something", where="files", found="nothing", expected="files or deletes")
    return {**{file.path: file for file in written}, **dict.fromkeys(deletes)}
