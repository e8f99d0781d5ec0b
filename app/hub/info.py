"""What a repo is: the first thing that every client asks."""

from typing import Annotated, Any

from fastapi import Query

from app.api.services import Pot, Services
from app.hub.auth import Visitor, open_repo, visible_repo
from app.hub.cards import card_data, tags_of
from app.hub.entries import size_of, stamp
from app.hub.errors import missing_repo
from app.hub.oids import oids_of
from app.hub.route import hub_router
from app.hub.snapshots import Snapshot, open_snapshot
from app.store.records import Repo

router = hub_router()
Blobs = Annotated[bool, Query(description="sizes and hashes of the files too")]


@router.get("/api/models/{namespace}/{name}")
def shown(caller: Visitor, pot: Pot, namespace: str, name: str, blobs: Blobs = False) -> dict[str, Any]:
    """The newest revision of `main`."""
    return described(pot, open_snapshot(pot, visible_repo(pot, caller, namespace, name), "main"), blobs)


@router.get("/api/models/{namespace}/{name}/revision/{revision:quoted}")
def shown_at(
    caller: Visitor, pot: Pot, namespace: str, name: str, revision: str, blobs: Blobs = False
) -> dict[str, Any]:
    """One revision."""
    return described(pot, open_snapshot(pot, visible_repo(pot, caller, namespace, name), revision), blobs)


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
    card = card_data(pot, snapshot)
    oids = oids_of(pot, snapshot.files.values()) if blobs else {}
    siblings = [
        {"rfilename": file.path, **({"blobId": oids[file.path], **size_of(file)} if blobs else {})}
        for file in snapshot.files.values()
    ]
    return {**summary(snapshot.repo, card), "sha": snapshot.commit, "siblings": siblings, "cardData": card}


def summary(repo: Repo, card: dict[str, Any]) -> dict[str, Any]:
    """What lists show of a repo."""
    return {
        "_id": f"{repo.id:024x}",
        "id": repo.full_name,
        "modelId": repo.full_name,
        "author": repo.namespace,
        "sha": repo.head,
        "private": repo.private,
        "gated": repo.gated or False,
        "disabled": False,
        "createdAt": stamp(repo.created_at),
        "lastModified": stamp(repo.updated_at),
        "downloads": 0,
        "likes": 0,
        "library_name": card.get("library_name"),
        "pipeline_tag": card.get("pipeline_tag"),
        "tags": tags_of(repo, card),
    }
