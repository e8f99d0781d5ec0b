"""Compositions: ask for one, follow it, cancel it, download its files."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import Field
from starlette.convertors import Convertor, register_url_convertor

from app.api.auth import Reader, Writer, check_write
from app.api.bodies import Body, body_of, documented
from app.api.composing import compose
from app.api.events import LastEventId, follow
from app.api.files import file_response
from app.api.jobs import cancel
from app.api.paging import Cursor, Limit
from app.api.plans import RecipeData
from app.api.services import Pot, Services
from app.api.shapes import CompositionShape, Listing, TreeShape
from app.store.records import Composition, JobState, Repo, Token, may_read
from app.store.resolve import check_gate
from merge_core.errors import ConflictError, NotFoundError

router = APIRouter(prefix="/v1/compositions", tags=["compositions"])


class Reference(Convertor[str]):
    """A composition in a path: its id, or `namespace/name`."""

    regex = "[0-9a-f]{32}|[^/]+/[^/]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("reference", Reference())


class CompositionWish(Body):
    """A recipe to build, and the repo that its files will be in."""

    name: str = Field(description="namespace/name", examples=["soups/mix"])
    recipe: RecipeData
    lazy: bool = Field(False, description="list the files now, and build them when somebody first wants one")


@router.post(
    "",
    status_code=202,
    summary="Build a recipe",
    responses={200: {"model": CompositionShape, "description": "It is built already"}},
    **documented(CompositionWish, reads_yaml=True),
)
def asked(
    token: Writer,
    pot: Pot,
    wish: Annotated[CompositionWish, Depends(body_of(CompositionWish, reads_yaml=True))],
    response: Response,
) -> CompositionShape:
    """202 with a job, or 200 when the same recipe over the same inputs is built: then nothing is built again.

    Everything that headers show to be wrong is answered here, before anything is queued. While the same digest
    is under way the answer is that composition, under the name asked for: its files will be there as well.

    A lazy one is `planned`, and its files are listed by the Hub's routes; the first download of weights builds it, or
    `/build`, or asking for it again without `lazy`.
    """
    return compose(pot, token, wish.name, wish.recipe, response, lazy=wish.lazy)


@router.get("", summary="List the compositions that the caller may read")
def listed(
    token: Reader, pot: Pot, state: JobState | None = None, limit: Limit = 100, cursor: Cursor = None
) -> Listing[CompositionShape]:
    """The newest first."""
    page = pot.store.list_compositions(token, state=state, limit=limit, cursor=cursor)
    return Listing(items=[CompositionShape.of(item) for item in page.items], next_cursor=page.next_cursor)


def readable_composition(token: Reader, pot: Pot, reference: str) -> Composition:
    """The composition; raises the same NotFoundError whether it does not exist or is hidden from the caller."""
    found = pot.store.awaited_as(reference) or pot.store.get_composition(reference) or _adopted(pot, reference)
    shown = None if found is None else _as_seen(pot, token, found)
    if shown is None:
        raise NotFoundError(
            "no such composition", where=f"composition '{reference}'", expected="an id or namespace/name"
        )
    return shown


Readable = Annotated[Composition, Depends(readable_composition)]


@router.get("/{reference:reference}/events", response_class=EventSourceResponse, summary="Follow a composition")
async def events(composition: Readable, pot: Pot, last_event_id: LastEventId = None) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events until it is built, failed or cancelled; Last-Event-ID resumes."""
    async for event in follow(pot.store, composition.job_id, last_event_id):
        yield event


@router.post("/{reference:reference}/cancel", status_code=202, summary="Cancel a composition")
def cancelled(composition: Readable, token: Writer, pot: Pot) -> CompositionShape:
    """Takes effect within a second; nothing changes when it is over."""
    cancel(pot, token, composition.job_id)
    return CompositionShape.of(pot.store.get_composition(composition.id) or composition)


@router.post("/{reference:reference}/build", status_code=202, summary="Build what is only planned")
def built(composition: Readable, token: Writer, pot: Pot) -> CompositionShape:
    """As the first download would. Nothing changes when it is under way or over."""
    check_write(token, composition.name.partition("/")[0])
    pot.jobs.start_composition(composition)
    return CompositionShape.of(pot.store.get_composition(composition.id) or composition)


@router.get("/{reference:reference}/files", summary="The files of a composition")
def files(composition: Readable, token: Reader, pot: Pot) -> TreeShape:
    """Those that it was built with, whatever the repo holds by now."""
    repo, commit = _built(pot, composition)
    check_gate(token, repo, f"composition '{composition.name}'")
    return TreeShape.at(commit, pot.store.tree(pot.store.resolve_revision(repo, commit)))


@router.head("/{reference:reference}/files/{path:path}", include_in_schema=False)
@router.get("/{reference:reference}/files/{path:path}", summary="Download a file", response_class=Response)
def file(composition: Readable, token: Reader, pot: Pot, path: str, request: Request) -> Response:
    """Range, If-None-Match and If-Range are honoured; the ETag is the sha256."""
    repo, commit = _built(pot, composition)
    return file_response(pot, token, request, repo, path, commit)


# After the others: `ID/events` would also pass for a `namespace/name`.
@router.get("/{reference:reference}", summary="One composition")
def shown(composition: Readable) -> CompositionShape:
    """By id, or by `namespace/name`: then the newest of that name."""
    return CompositionShape.of(composition)


def _adopted(pot: Services, reference: str) -> Composition | None:
    """What a repo holds whose files were built under another name."""
    namespace, slash, name = reference.partition("/")
    repo = pot.store.get_repo(namespace, name) if slash else None
    return None if repo is None else pot.store.adopted_by(repo)


def _as_seen(pot: Services, token: Token, composition: Composition) -> Composition | None:
    """The composition under the first of its names whose repo the caller may read."""
    for name in pot.store.names_of(composition):
        repo = pot.store.get_repo(*name.split("/", 1))
        if repo is not None and may_read(token, repo):
            return replace(composition, name=name)
    return None


def _repo_of(pot: Services, composition: Composition) -> Repo | None:
    return pot.store.get_repo(*composition.name.split("/", 1))


def _built(pot: Services, composition: Composition) -> tuple[Repo, str]:
    repo = _repo_of(pot, composition)
    if repo is None or composition.commit is None:
        raise ConflictError(
            "the files are not built yet",
            where=f"composition '{composition.name}'",
            found=f"state {composition.state}",
            expected="state done",
        )
    return repo, composition.commit
