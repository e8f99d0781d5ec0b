"""Who a token is, and what a client asks of a Hub when it starts."""

import re
from typing import Any

from app.api.services import Pot
from app.hub.auth import Visitor
from app.hub.entries import stamp
from app.hub.errors import BadTokenError
from app.hub.route import hub_router
from app.store.records import ANY_NAMESPACE, SCOPES, Token

router = hub_router()
NO_NAME = "user"


@router.get("/api/whoami-v2")
def whoami(caller: Visitor, pot: Pot) -> dict[str, Any]:
    """The token, as a user whose organisations are its namespaces."""
    if caller is None:
        raise BadTokenError("a token is needed", where="header Authorization", expected="Bearer …")
    home = home_of(caller)
    namespaces = caller.namespaces - {ANY_NAMESPACE}
    if ANY_NAMESPACE in caller.namespaces:
        namespaces = frozenset(name.partition("/")[0] for name in pot.store.known_names(caller))
    role = _role(caller)
    return {
        "type": "user",
        "id": caller.id,
        "name": home,
        "fullname": caller.name,
        "isPro": False,
        "canPay": False,
        "orgs": [_organisation(name, role) for name in sorted(namespaces - {home})],
        "auth": {
            "type": "access_token",
            "accessToken": {"displayName": caller.name, "role": role, "createdAt": stamp(caller.created_at)},
        },
    }


@router.get("/api/agent-harnesses")
def harnesses() -> dict[str, Any]:
    """What clients look for in their surroundings to tell us what runs them: nothing."""
    return {"standardEnvVars": [], "harnesses": {}}


def home_of(caller: Token) -> str:
    """The namespace of a repo that is named without one: the token's only one, or one with the token's own name."""
    own = re.sub(r"[^A-Za-z0-9]+", "-", caller.name).strip("-")[:96] or NO_NAME
    named = sorted(caller.namespaces - {ANY_NAMESPACE})
    return own if own in named or not named else named[0]


def _role(caller: Token) -> str:
    return max(caller.scopes, key=SCOPES.index)


def _organisation(name: str, role: str) -> dict[str, Any]:
    return {"type": "org", "name": name, "fullname": name, "isEnterprise": False, "roleInOrg": role}
