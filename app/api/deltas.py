"""What published commits were found to be: deltas with their statistics, bases, other files."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from app.api.auth import Reader
from app.api.delta_shapes import DeltaDetail, DeltaShape
from app.api.paging import Cursor, Limit
from app.api.services import Pot
from app.api.shapes import Listing
from merge_core.errors import NotFoundError

router = APIRouter(prefix="/v1/deltas", tags=["deltas"])


@router.get("", summary="List the deltas that the caller may read")
def listed(
    token: Reader,
    pot: Pot,
    kind: Annotated[
        Literal["delta", "base", "files", "any"], Query(description="what the files were found to be")
    ] = "delta",
    repo: Annotated[str | None, Query(description="namespace/name")] = None,
    base: Annotated[str | None, Query(description="the base's repo, or a base as the files name it")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Listing[DeltaShape]:
    """The newest first, one record for each commit; a refused one says why."""
    wanted = None if kind == "any" else kind
    page = pot.store.list_deltas(token, kind=wanted, repo=repo, base=base, limit=limit, cursor=cursor)
    return Listing(items=[DeltaShape.of(delta) for delta in page.items], next_cursor=page.next_cursor)


@router.get("/{delta_id}", summary="One delta with its statistics")
def shown(token: Reader, pot: Pot, delta_id: str) -> DeltaDetail:
    """What its commit's files say of their base, tensor by tensor."""
    delta = pot.store.get_delta(delta_id, token)
    if delta is None:
        raise NotFoundError("no such delta", where=f"delta '{delta_id}'")
    stored = pot.store.stored_bytes([file["sha256"] for file in delta.facts.get("files", [])])
    return DeltaDetail.with_tensors(delta, stored, pot.store.touched_by(delta.id))
