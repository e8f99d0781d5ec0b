"""How clients are to send their files, and which they need not send."""

from typing import Annotated, Any

from fastapi import Depends
from pydantic import Field

from app.api.committing import refuse_computed
from app.api.services import Pot, Services
from app.hub.auth import Publisher, writable_repo
from app.hub.bodies import HubBody, sent
from app.hub.ignored import FILE, MOST_BYTES, ignored_of
from app.hub.oids import etag_of, is_large
from app.hub.operations import safe_path
from app.hub.route import hub_router
from app.hub.snapshots import Snapshot, open_snapshot

router = hub_router()
BODY_BYTES = 8 << 20
MOST_FILES = 1000


class Coming(HubBody):
    """A file that a client wants to send."""

    path: str
    size: int = Field(ge=0)


class Plan(HubBody):
    """All files of a coming commit, or some of them, with what is to be left out."""

    files: list[Coming] = Field(max_length=MOST_FILES)
    ignore: str | None = Field(None, alias="gitIgnore", max_length=MOST_BYTES)


@router.post("/api/models/{namespace}/{name}/preupload/{revision:quoted}")
def advised(
    caller: Publisher,
    pot: Pot,
    namespace: str,
    name: str,
    revision: str,
    plan: Annotated[Plan, Depends(sent(Plan, BODY_BYTES))],
) -> dict[str, Any]:
    """With the hash of what is there: a client that has the same does not send it."""
    repo = writable_repo(pot, caller, namespace, name)
    refuse_computed(repo)
    snapshot = open_snapshot(pot, repo, revision)
    paths = [safe_path(file.path, f"files[{index}]") for index, file in enumerate(plan.files)]
    ignored = ignored_of(_patterns(pot, snapshot) if plan.ignore is None else plan.ignore, paths)
    return {"files": [_advice(pot, snapshot, file, file.path in ignored) for file in plan.files]}


def _advice(pot: Services, snapshot: Snapshot, file: Coming, is_ignored: bool) -> dict[str, Any]:
    mode = "lfs" if is_large(file.path, file.size) else "regular"
    advice: dict[str, Any] = {"path": file.path, "uploadMode": mode, "shouldIgnore": is_ignored}
    there = snapshot.files.get(file.path)
    # Another size is another file; and the hash of one that was small and is large now would be of another kind.
    return advice if there is None or there.size != file.size else {**advice, "oid": etag_of(pot, there)}


def _patterns(pot: Services, snapshot: Snapshot) -> str:
    """What the repo leaves out by itself."""
    file = snapshot.files.get(FILE)
    if file is None or file.sha256 is None:
        return ""
    return b"".join(pot.blobs.read(file.sha256, 0, min(file.size, MOST_BYTES))).decode(errors="replace")
