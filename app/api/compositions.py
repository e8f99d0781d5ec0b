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
from app.api.events import LastEventId, follow
from app.api.files import file_response
from app.api.jobs import cancel
from app.api.names import split_name
from app.api.paging import Cursor, Limit
from app.api.plans import RecipeData
from app.api.recipes import Pinned, planned
from app.api.services import Pot, Services
from app.api.shapes import CompositionShape, Listing, TreeShape
from app.store.records import Composition, JobState, Repo, Token, may_read
from merge_core.errors import ConflictError, NotFoundError
from merge_core.plan import Plan

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
    """
    return compose(pot, token, wish.name, wish.recipe, response)


def compose(pot: Services, token: Token, full_name: str, recipe: RecipeData, response: Response) -> CompositionShape:
    """Plan and queue, or find what is there; sets the answer's status and where the composition is."""
    namespace, name = split_name(full_name, "name")
    check_write(token, namespace)
    _check_free(pot, token, namespace, name)
    pinned, plan = planned(pot, token, recipe)
    composition = _requested(pot, token, full_name, pinned, plan)
    response.status_code = 200 if composition.state == "done" else 202
    shape = CompositionShape.of(composition)
    response.headers["Location"] = shape.location
    return shape


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


@router.get("/{reference:reference}/files", summary="The files of a composition")
def files(composition: Readable, pot: Pot) -> TreeShape:
    """Those that it was built with, whatever the repo holds by now."""
    repo, commit = _built(pot, composition)
    return TreeShape.at(commit, pot.store.tree(pot.store.resolve_revision(repo, commit)))


@router.head("/{reference:reference}/files/{path:path}", include_in_schema=False)
@router.get("/{reference:reference}/files/{path:path}", summary="Download a file", response_class=Response)
def file(composition: Readable, pot: Pot, path: str, request: Request) -> Response:
    """Range, If-None-Match and If-Range are honoured; the ETag is the sha256."""
    repo, commit = _built(pot, composition)
    return file_response(pot, request, repo, path, commit)


# After the others: `ID/events` would also pass for a `namespace/name`.
@router.get("/{reference:reference}", summary="One composition")
def shown(composition: Readable) -> CompositionShape:
    """By id, or by `namespace/name`: then the newest of that name."""
    return CompositionShape.of(composition)


def _check_free(pot: Services, token: Token, namespace: str, name: str) -> None:
    repo = pot.store.get_repo(namespace, name)
    if repo is not None and repo.head is not None and repo.kind != "composition":
        expected = "a new name, or that of a composition"
        raise ConflictError("this name is taken", where="name", found=f"a repo of kind {repo.kind}", expected=expected)


def _requested(pot: Services, token: Token, name: str, pinned: Pinned, plan: Plan) -> Composition:
    known = pot.store.composition_with_digest(plan.digest)
    if known is None:
        return _submitted(pot, token, name, pinned, plan)
    if known.state == "done":
        return _under_name(pot, token, known, name, pinned.is_private)
    named = pot.store.add_name(known, name, private=pinned.is_private, author=token.name)
    if named.state == "done":  # since
        return _under_name(pot, token, known, name, pinned.is_private)
    return named if named.is_open else _submitted(pot, token, name, pinned, plan)


def _submitted(pot: Services, token: Token, name: str, pinned: Pinned, plan: Plan) -> Composition:
    summary = {key: value for key, value in plan.describe().items() if key not in ("tensors", "recipe")}
    composition = pot.store.create_composition(
        name,
        pinned.recipe.model_dump(mode="json"),
        plan.digest,
        summary,
        [shard.nbytes for shard in plan.shards],
        private=pinned.is_private,
        author=token.name,
        inputs=plan.marks.values(),
    )
    pot.jobs.submit_composition(composition)
    return composition


def _under_name(pot: Services, token: Token, done: Composition, name: str, private: bool) -> Composition:
    """The composition under the name that was asked for: a repo with the same files, made now if need be."""
    pot.store.adopt_composition(done, name, private=private, author=token.name)
    return replace(done, name=name)


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
