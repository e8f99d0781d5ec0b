"""Bases from elsewhere: have a repo of the upstream hub brought here."""

from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from app.api.auth import Writer, check_write
from app.api.bodies import Body, body_of, documented
from app.api.services import Pot
from app.api.shapes import JobShape
from app.names import check_revision, split_name
from app.upstream import upstream_of
from merge_core.errors import ConflictError, ForbiddenError

router = APIRouter(prefix="/v1/pulls", tags=["pulls"])


class PullWish(Body):
    """A repo of the upstream hub."""

    repo: str = Field(description="namespace/name, there and here", examples=["org/base"])
    revision: str = Field("main", description="a branch, tag or commit there; it is pinned to the commit")
    private: bool = Field(False, description="hidden here from tokens of other namespaces")


@router.post("", status_code=202, summary="Bring a repo from the upstream hub", **documented(PullWish))
def pulled(
    token: Writer, pot: Pot, wish: Annotated[PullWish, Depends(body_of(PullWish))], response: Response
) -> JobShape:
    """A job: follow it. Needs STOCKPOT_UPSTREAM. The commit here has the id that it has there.

    What breaks off goes on where it was; a file that is here already is not fetched again.
    """
    upstream_of(pot.settings)
    namespace, name = split_name(wish.repo, "repo")
    check_write(token, namespace)
    repo = pot.store.ensure_repo(namespace, name, wish.private)
    if repo.kind == "composition":
        raise ConflictError("this repo's files are computed from a recipe", where="repo", found=wish.repo)
    if wish.private and not repo.private:
        raise ForbiddenError("this repo exists, and is public", where="private", found=wish.repo)
    job = pot.jobs.submit_pull(repo, check_revision(wish.revision, "revision"))
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    return JobShape.of(job)
