"""Branches and tags: names of commits."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import Field

from app.api.services import Pot, Services
from app.hub.auth import Publisher, Visitor, visible_repo, writable_repo
from app.hub.bodies import HubBody, sent
from app.hub.errors import MissingRevisionError
from app.hub.models import Model
from app.hub.route import hub_router
from app.names import check_branch
from app.store.commits import NO_COMMIT
from app.store.records import Ref, Repo
from app.store.revisions import MAIN, MAIN_REF
from merge_core.errors import ConflictError, NotFoundError

router = hub_router()
LONGEST_MESSAGE = 4000


class BranchWish(HubBody):
    """A branch to make: at a revision, or without files."""

    starting_point: str = Field(MAIN, alias="startingPoint")
    empty: bool = Field(False, alias="emptyBranch")


class TagWish(HubBody):
    """A tag to make."""

    tag: str
    message: str | None = Field(None, max_length=LONGEST_MESSAGE)


class SquashWish(HubBody):
    """What the one commit is to say."""

    message: str = Field("Super-squash", min_length=1, max_length=LONGEST_MESSAGE)


@router.get("/api/models/{namespace}/{name}/refs")
def listed(
    caller: Visitor, pot: Pot, namespace: str, name: str, include_prs: Annotated[bool, Query()] = False
) -> dict[str, list[dict[str, str]]]:
    """All of them, and with `include_prs` the pull requests too."""
    repo = visible_repo(pot, caller, namespace, name)
    found = {"branches": _branches(pot, repo), "tags": _told(pot.store.tags(repo)), "converts": []}
    return found | ({"pullRequests": _told(pot.store.pull_requests(repo))} if include_prs else {})


@router.post("/api/models/{namespace}/{name}/branch/{branch:quoted}")
def branch_made(
    caller: Publisher,
    pot: Pot,
    namespace: str,
    name: str,
    branch: str,
    wish: Annotated[BranchWish, Depends(sent(BranchWish))],
) -> dict[str, Any]:
    """409 when it is there. In a repo without commits it begins without files."""
    repo = writable_repo(pot, caller, namespace, name)
    check_branch(branch, "branch")
    is_empty = wish.empty or (repo.head is None and wish.starting_point == MAIN)
    if is_empty:
        return _one(pot.store.create_empty_branch(repo, branch, caller.name))
    with _known_revision():
        return _one(pot.store.create_branch(repo, branch, wish.starting_point))


@router.delete("/api/models/{namespace}/{name}/branch/{branch:quoted}")
def branch_deleted(caller: Publisher, pot: Pot, namespace: str, name: str, branch: str) -> None:
    """`main` stays."""
    repo = writable_repo(pot, caller, namespace, name)
    with _known_revision():
        pot.store.delete_branch(repo, branch)


@router.post("/api/models/{namespace}/{name}/tag/{revision:quoted}")
def tag_made(
    caller: Publisher,
    pot: Pot,
    namespace: str,
    name: str,
    revision: str,
    wish: Annotated[TagWish, Depends(sent(TagWish))],
) -> dict[str, Any]:
    """409 when it is there."""
    repo = writable_repo(pot, caller, namespace, name)
    check_branch(wish.tag, "tag")
    with _known_revision():
        return _one(pot.store.create_tag(repo, wish.tag, revision, wish.message))


@router.delete("/api/models/{namespace}/{name}/tag/{tag:quoted}")
def tag_deleted(caller: Publisher, pot: Pot, namespace: str, name: str, tag: str) -> None:
    """The commit stays."""
    repo = writable_repo(pot, caller, namespace, name)
    with _known_revision():
        pot.store.delete_tag(repo, tag)


@router.post("/api/models/{namespace}/{name}/super-squash/{branch:quoted}")
def squashed(
    caller: Publisher,
    pot: Pot,
    namespace: str,
    name: str,
    branch: str,
    wish: Annotated[SquashWish, Depends(sent(SquashWish))],
) -> dict[str, str]:
    """One commit in place of a branch's history."""
    repo = writable_repo(pot, caller, namespace, name)
    if repo.kind == "composition":
        raise ConflictError("this repo's files are computed from a recipe", where=f"repo '{repo.full_name}'")
    with _known_revision():
        return {"commitId": pot.store.super_squash(repo, wish.message, caller.name, branch).id}


@contextmanager
def _known_revision() -> Iterator[None]:
    """What is not found within is a revision."""
    try:
        yield
    except NotFoundError as error:
        raise MissingRevisionError(
            error.message, where=error.where, found=error.found, expected=error.expected
        ) from None


def _branches(pot: Services, repo: Repo) -> list[dict[str, str]]:
    """With the commit that `main` of a composition is to have."""
    others = [told for told in _told(pot.store.branches(repo)) if told["name"] != MAIN]
    coming = Model(pot, repo).snapshot.commit
    main = {"name": MAIN, "ref": MAIN_REF, "targetCommit": coming}
    return others if coming == NO_COMMIT else [main, *others]


def _told(refs: list[Ref]) -> list[dict[str, str]]:
    return [_one(ref) for ref in refs]


def _one(ref: Ref) -> dict[str, str]:
    return {"name": ref.name, "ref": ref.ref, "targetCommit": ref.commit}
