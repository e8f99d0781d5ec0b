"""Pull requests as clients list them. They are opened by commits; nobody talks about them here."""

from typing import Any

from app.api.services import Pot, Services
from app.hub.auth import Visitor, visible_repo
from app.hub.entries import stamp
from app.hub.route import hub_router
from app.store.records import Ref, Repo
from merge_core.errors import NotFoundError

router = hub_router()


@router.get("/api/models/{namespace}/{name}/discussions")
def listed(
    caller: Visitor, pot: Pot, namespace: str, name: str, type: str | None = None, status: str | None = None
) -> dict[str, Any]:
    """The newest first, all on one page."""
    repo = visible_repo(pot, caller, namespace, name)
    is_asked_for = type in (None, "all", "pull_request") and status in (None, "all", "open")
    pulls = pot.store.pull_requests(repo)[::-1] if is_asked_for else []
    return {"discussions": [_told(pot, repo, pull) for pull in pulls], "count": len(pulls), "start": 0}


@router.get("/api/models/{namespace}/{name}/discussions/{number}")
def shown(caller: Visitor, pot: Pot, namespace: str, name: str, number: int) -> dict[str, Any]:
    """One of them."""
    repo = visible_repo(pot, caller, namespace, name)
    pull = next((pull for pull in pot.store.pull_requests(repo) if pull.name == str(number)), None)
    if pull is None:
        raise NotFoundError("no such pull request", where="discussion", found=number)
    changes = {"base": "refs/heads/main"}
    return _told(pot, repo, pull) | {"events": [], "changes": changes, "filesWithConflicts": [], "diff": ""}


def _told(pot: Services, repo: Repo, pull: Ref) -> dict[str, Any]:
    commit = pot.store.resolve_revision(repo, pull.ref)
    return {
        "num": int(pull.name),
        "title": (pull.message or commit.message).partition("\n")[0],
        "author": {"name": commit.author},
        "createdAt": stamp(pull.created_at),
        "status": "open",
        "isPullRequest": True,
        "repo": {"name": repo.full_name, "type": "model"},
    }
