"""What a repo is: the first thing that every client asks."""

from typing import Annotated, Any

from fastapi import Depends, Query

from app.api.services import Pot, Services
from app.hub.auth import Visitor, open_repo, visible_repo
from app.hub.awaiting import built_soon
from app.hub.errors import missing_repo
from app.hub.models import SHOWN, Model, check_properties, told
from app.hub.route import Expand, hub_router
from app.hub.snapshots import Snapshot, open_snapshot

router = hub_router()
Blobs = Annotated[bool, Query(description="sizes and hashes of the files too")]


@router.get("/api/models/{namespace}/{name}", dependencies=[Depends(built_soon)])
def shown(caller: Visitor, pot: Pot, namespace: str, name: str, expand: Expand, blobs: Blobs = False) -> dict[str, Any]:
    """The newest revision of `main`."""
    return shown_at(caller, pot, namespace, name, "main", expand, blobs)


@router.get("/api/models/{namespace}/{name}/revision/{revision:quoted}", dependencies=[Depends(built_soon)])
def shown_at(
    caller: Visitor, pot: Pot, namespace: str, name: str, revision: str, expand: Expand, blobs: Blobs = False
) -> dict[str, Any]:
    """One revision; of its properties those that `expand` names, if it names any."""
    names = check_properties(expand)
    snapshot = open_snapshot(pot, visible_repo(pot, caller, namespace, name), revision)
    return told(Model(pot, snapshot.repo, snapshot), names) if names else described(pot, snapshot, blobs)


@router.get("/api/models/{name}")
def nameless(caller: Visitor, name: str) -> None:
    """A name without a namespace is nobody's here."""
    raise missing_repo(caller, name)


@router.get("/api/models/{namespace}/{name}/auth-check")
def allowed(caller: Visitor, pot: Pot, namespace: str, name: str) -> dict[str, bool]:
    """Whether the caller may read the files: an error when not."""
    open_repo(pot, caller, namespace, name)
    return {"ok": True}


def described(pot: Services, snapshot: Snapshot, blobs: bool) -> dict[str, Any]:
    """A revision in full."""
    model = Model(pot, snapshot.repo, snapshot)
    return told(model, SHOWN) | {"siblings": model.siblings(blobs)}
