"""The bytes of files."""

from fastapi import Request, Response

from app.api.services import Pot, Services
from app.api.serving import Served, serve
from app.hub.auth import Visitor, open_repo
from app.hub.errors import missing_repo
from app.hub.oids import etag_of
from app.hub.route import hub_router
from app.hub.snapshots import Snapshot, SnapshotFile, mark_of, open_snapshot
from app.hub.streaming import streamed

router = hub_router()


@router.head("/{namespace}/{name}/resolve/{revision:quoted}/{path:quotedpath}")
@router.get("/{namespace}/{name}/resolve/{revision:quoted}/{path:quotedpath}")
@router.head("/{namespace}/{name}/raw/{revision:quoted}/{path:quotedpath}")
@router.get("/{namespace}/{name}/raw/{revision:quoted}/{path:quotedpath}")
def file(caller: Visitor, pot: Pot, request: Request, namespace: str, name: str, revision: str, path: str) -> Response:
    """A file of a revision, with ranges; HEAD is how clients learn commit, size and hash."""
    snapshot = open_snapshot(pot, open_repo(pot, caller, namespace, name), revision)
    return sent(pot, request, snapshot, snapshot.file(path))


@router.head("/{name}/resolve/{revision:quoted}/{path:quotedpath}")
@router.get("/{name}/resolve/{revision:quoted}/{path:quotedpath}")
def nameless(caller: Visitor, name: str) -> None:
    """A name without a namespace is nobody's here."""
    raise missing_repo(caller, name)


def sent(pot: Services, request: Request, snapshot: Snapshot, file: SnapshotFile) -> Response:
    """The response with a file whose bytes are here, or are being made."""
    if file.sha256 is None:
        return streamed(pot, request, snapshot, file)
    etag, former = etag_of(pot, file), mark_of(snapshot.commit, file.path)
    return serve(request, Served(file.path, pot.blobs, file.sha256, file.size, snapshot.commit, etag, former))
