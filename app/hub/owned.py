"""What a namespace has, and how much room it takes."""

from typing import Any

from app.api.services import Pot, Services
from app.hub.auth import Visitor
from app.hub.entries import stamp
from app.hub.errors import BadTokenError
from app.hub.models import Model
from app.hub.route import hub_router
from app.store.records import Repo
from app.store.repo_search import RepoWish
from merge_core.errors import ForbiddenError

router = hub_router()
MOST = 1000


@router.get("/api/settings/repositories")
def own(caller: Visitor, pot: Pot) -> list[dict[str, Any]]:
    """Of all namespaces that the token reaches."""
    if caller is None:
        raise BadTokenError("a token is needed", where="header Authorization", expected="Bearer …")
    found = pot.store.search_repos(caller, RepoWish(), MOST).items
    return [_told(pot, repo) for repo in found if caller.allows("read", repo.namespace)]


@router.get("/api/organizations/{namespace}/settings/repositories")
def of_namespace(caller: Visitor, pot: Pot, namespace: str) -> list[dict[str, Any]]:
    """Of one namespace, which is the token's."""
    if caller is None or not caller.allows("read", namespace):
        raise ForbiddenError("this is not a token of the namespace", where="namespace", found=namespace)
    return [_told(pot, repo) for repo in pot.store.search_repos(caller, RepoWish(namespace), MOST).items]


def _told(pot: Services, repo: Repo) -> dict[str, Any]:
    return {
        "id": repo.full_name,
        "type": "model",
        "updatedAt": stamp(repo.updated_at),
        "visibility": "private" if repo.private else "public",
        "storage": Model(pot, repo).stored(),
    }
