"""The files and folders of a revision, page by page."""

from typing import Annotated, Any

from fastapi import Query, Request, Response

from app.api.services import Pot, Services
from app.hub.auth import Visitor, open_repo
from app.hub.entries import file_entry, folder_entry, folders_of
from app.hub.oids import oids_of
from app.hub.route import add_next, hub_router
from app.hub.snapshots import Snapshot, open_snapshot

router = hub_router()
PAGE = 1000
EXPANDED_PAGE = 100
Limit = Annotated[int | None, Query(ge=1, le=10_000)]
Cursor = Annotated[str | None, Query(max_length=2000)]


@router.get("/api/models/{namespace}/{name}/tree/{revision:quoted}")
@router.get("/api/models/{namespace}/{name}/tree/{revision:quoted}/{path:quotedpath}")
def listed(
    caller: Visitor,
    pot: Pot,
    request: Request,
    response: Response,
    namespace: str,
    name: str,
    revision: str,
    path: str = "",
    recursive: bool = False,
    expand: bool = False,
    limit: Limit = None,
    cursor: Cursor = None,
) -> list[dict[str, Any]]:
    """By path, folders among the files; `Link` says where the next page is."""
    snapshot = open_snapshot(pot, open_repo(pot, caller, namespace, name), revision)
    paths = [found for found in _within(snapshot, path.strip("/"), recursive) if cursor is None or found > cursor]
    most = min(limit or PAGE, EXPANDED_PAGE if expand else PAGE)
    if len(paths) > most:
        add_next(request, response, cursor=paths[most - 1])
    return shown(pot, snapshot, paths[:most], expand)


def shown(pot: Services, snapshot: Snapshot, paths: list[str], expand: bool) -> list[dict[str, Any]]:
    """The files and folders at these paths, which exist."""
    files = {path: snapshot.files[path] for path in paths if path in snapshot.files}
    oids = oids_of(pot, files.values())
    return [
        file_entry(snapshot, files[path], oids[path], expand) if path in files else folder_entry(snapshot, path, expand)
        for path in paths
    ]


def _within(snapshot: Snapshot, folder: str, recursive: bool) -> list[str]:
    """What lies in a folder, by path; MissingEntryError where there is no such folder."""
    everything = [*snapshot.files, *folders_of(snapshot.files)]
    prefix = f"{folder}/" if folder else ""
    found = [path for path in everything if path.startswith(prefix)]
    if folder and not found:
        raise snapshot.missing(folder)
    return sorted(path for path in found if recursive or "/" not in path[len(prefix) :])
