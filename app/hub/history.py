"""The commits of a revision."""

from html import escape
from typing import Annotated, Any

from fastapi import Query, Request, Response

from app.api.services import Pot
from app.hub.auth import Visitor, visible_repo
from app.hub.entries import stamp
from app.hub.route import Expand, add_next, hub_router
from app.hub.snapshots import open_snapshot
from app.store.commits import NO_COMMIT
from app.store.records import Commit

router = hub_router()
MOST = 100


@router.get("/api/models/{namespace}/{name}/commits/{revision:quoted}")
def commits(
    caller: Visitor,
    pot: Pot,
    request: Request,
    response: Response,
    namespace: str,
    name: str,
    revision: str,
    expand: Expand,
    page: Annotated[int, Query(alias="p", ge=0, le=10_000_000)] = 0,
    limit: Annotated[int, Query(ge=1)] = MOST,
) -> list[dict[str, Any]]:
    """The newest first, page by page."""
    repo = visible_repo(pot, caller, namespace, name)
    snapshot = open_snapshot(pot, repo, revision)
    newest = snapshot.commit
    if snapshot.unbuilt is not None:
        coming = Commit(newest, repo.id, repo.head, snapshot.title, snapshot.unbuilt.author, snapshot.created_at)
        return [] if page else [_told(coming, "formatted" in expand)]
    most = min(limit, MOST)
    total = 0 if newest == NO_COMMIT else pot.store.count_commits(repo, newest)
    response.headers["X-Total-Count"] = str(total)
    if (page + 1) * most < total:
        add_next(request, response, p=page + 1)
    if page * most >= total:
        return []
    return [_told(commit, "formatted" in expand) for commit in pot.store.commits(repo, newest, most, page * most)]


def _told(commit: Commit, formatted: bool) -> dict[str, Any]:
    title, _, message = commit.message.partition("\n")
    texts = {"title": title, "message": message.strip()}
    authors = [{"user": commit.author}]
    told = {"id": commit.id, **texts, "date": stamp(commit.created_at), "authors": authors}
    return told | {"formatted": {part: escape(text) for part, text in texts.items()}} if formatted else told
