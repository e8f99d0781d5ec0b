"""Access to the Xet routes: a repo's writers are told their address and a ticket for an hour."""

import time
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import JSONResponse

from app.api.auth import Credentials, check_scope, refuse_nul
from app.api.services import Pot
from app.hub.auth import Publisher, writable_repo
from app.hub.route import hub_router
from app.hub.signing import redeem, sign
from app.store.records import Token
from merge_core.errors import UnauthorizedError

router = hub_router()
ROOT = "/xet"
PURPOSE = "xet-write"
LASTS_S = 3600


@router.get("/api/models/{namespace}/{name}/xet-write-token/{revision:quoted}")
def access(request: Request, caller: Publisher, pot: Pot, namespace: str, name: str, revision: str) -> JSONResponse:
    """Where to send xorbs and shards, and what to show there instead of the caller's token."""
    writable_repo(pot, caller, namespace, name)
    address = str(request.base_url).rstrip("/") + ROOT
    until = int(time.time()) + LASTS_S
    ticket = sign(pot, caller, PURPOSE, {}, LASTS_S)
    headers = {"X-Xet-Cas-Url": address, "X-Xet-Access-Token": ticket, "X-Xet-Token-Expiration": str(until)}
    return JSONResponse({"casUrl": address, "exp": until, "accessToken": ticket}, headers=headers)


def sender(request: Request, credentials: Credentials, pot: Pot) -> Token:
    """Whose ticket a request to the Xet routes shows. Raises UnauthorizedError for one that is not good any more."""
    refuse_nul(request)
    if credentials is None:
        expected = "Bearer and the accessToken of a xet-write-token"
        raise UnauthorizedError("an access token is needed", where="header Authorization", expected=expected)
    token = redeem(request, pot, credentials.credentials, PURPOSE).token
    check_scope(token, "write")
    return token


Sender = Annotated[Token, Depends(sender)]
