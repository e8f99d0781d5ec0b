"""Some paths of a revision, by name."""

from typing import Any
from urllib.parse import parse_qs

from fastapi import Depends, Request

from app.api.bodies import JSON_TYPE, read_limited
from app.api.services import Pot
from app.hub.auth import Visitor, open_repo
from app.hub.entries import folders_of
from app.hub.route import hub_router
from app.hub.snapshots import open_snapshot
from app.hub.tree import shown
from merge_core.documents import parse_json
from merge_core.errors import InputError, MalformedError

router = hub_router()
MOST_PATHS = 10_000
TRUE = ("true", "1")


class PathsWish:
    """The paths that are asked for, and whether with their commits."""

    def __init__(self, paths: list[str], expand: bool) -> None:
        if len(paths) > MOST_PATHS:
            raise InputError("too many paths", where="paths", found=str(len(paths)), expected=f"at most {MOST_PATHS}")
        self.paths, self.expand = paths, expand


async def asked(request: Request) -> PathsWish:
    """The body: a form, as the Python clients send it, or JSON."""
    raw = await read_limited(request)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == JSON_TYPE:
        return _of_json(parse_json(raw))
    try:
        fields = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=MOST_PATHS + 10, errors="strict")
    except ValueError:
        raise MalformedError("not a form", where="body", expected="paths=…&paths=…") from None
    return PathsWish(fields.get("paths", []), _is_true(fields.get("expand", [""])[-1]))


@router.post("/api/models/{namespace}/{name}/paths-info/{revision:quoted}")
def told(
    caller: Visitor,
    pot: Pot,
    namespace: str,
    name: str,
    revision: str,
    wish: PathsWish = Depends(asked),  # noqa: B008
) -> list[dict[str, Any]]:
    """Those of the paths that there are, each once, in the order of the question."""
    snapshot = open_snapshot(pot, open_repo(pot, caller, namespace, name), revision)
    known = {*snapshot.files, *folders_of(snapshot.files)}
    asked_for = dict.fromkeys(path.strip("/") for path in wish.paths)
    return shown(pot, snapshot, [path for path in asked_for if path in known], wish.expand)


def _of_json(document: object) -> PathsWish:
    fields = document if isinstance(document, dict) else {}
    paths = fields.get("paths")
    listed = [paths] if isinstance(paths, str) else paths
    if not isinstance(listed, list) or not all(isinstance(path, str) for path in listed):
        raise MalformedError("not a list of paths", where="paths", expected='{"paths": ["…"]}')
    return PathsWish(listed, fields.get("expand") is True)


def _is_true(text: str) -> bool:
    return text.lower() in TRUE
