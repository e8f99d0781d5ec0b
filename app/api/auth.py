"""Who is asking and what they may do: bearer tokens with scopes and namespaces."""

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from starlette.concurrency import run_in_threadpool

from app.api.services import Services, services_of
from app.settings import is_loopback
from app.store.records import EVERYBODY, Repo, Scope, Token, may_read
from merge_core.errors import ForbiddenError, InputError, NotFoundError, UnauthorizedError

bearer = HTTPBearer(auto_error=False, scheme_name="token", description="A token made by `stockpot tokens create`.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]


async def caller(request: Request, needed: SecurityScopes, credentials: Credentials) -> Token:
    """The token of a request, or EVERYBODY on loopback as long as there is none.

    Raises UnauthorizedError without a known token, ForbiddenError when it lacks a scope that the route needs.
    """
    refuse_nul(request)
    pot = services_of(request)
    if pot.store.knows_caller(None if credentials is None else credentials.credentials):
        token = _caller(request, credentials, pot)  # another thread for nothing takes longer
    else:
        token = await run_in_threadpool(_caller, request, credentials, pot)
    for scope in needed.scopes:
        check_scope(token, scope)
    return token


def _caller(request: Request, credentials: HTTPAuthorizationCredentials | None, pot: Services) -> Token:
    return everybody(request, pot) or _known(credentials, pot)


def everybody(request: Request, pot: Services) -> Token | None:
    """EVERYBODY while the service is open, None once there is a token or it listens beyond loopback."""
    if not is_loopback(pot.settings.host) or pot.store.needs_token():
        return None
    _refuse_foreign_page(request)
    return EVERYBODY


Reader = Annotated[Token, Security(caller, scopes=["read"])]
Writer = Annotated[Token, Security(caller, scopes=["write"])]
Admin = Annotated[Token, Security(caller, scopes=["admin"])]


def check_write(token: Token, namespace: str) -> None:
    """Raises ForbiddenError when `token` may not write in `namespace`; says nothing of what is there."""
    if not token.allows("write", namespace):
        raise ForbiddenError(
            "this token may not write here",
            where=f"namespace '{namespace}'",
            found=f"a token for {_listed(token.namespaces)} with {_listed(token.scopes)}",
            expected=f"the scope write in '{namespace}'",
        )


def readable_repo(pot: Services, token: Token, namespace: str, name: str) -> Repo:
    """The repo; raises the same NotFoundError whether it does not exist or is hidden from `token`."""
    repo = pot.store.get_repo(namespace, name)
    if repo is None or not may_read(token, repo):
        raise NotFoundError("no such repo", where=f"repo '{namespace}/{name}'")
    return repo


def _known(credentials: HTTPAuthorizationCredentials | None, pot: Services) -> Token:
    if credentials is None:
        raise UnauthorizedError("a token is needed", where="header Authorization", expected="Bearer and a token")
    token = pot.store.find_token(credentials.credentials)
    if token is None:
        raise UnauthorizedError("this token is not known", where="header Authorization", expected="a token not revoked")
    return token


def check_scope(token: Token, scope: str) -> None:
    """Raises ForbiddenError when the token has no scope that includes this one."""
    scopes: dict[str, Scope] = {"read": "read", "write": "write", "admin": "admin"}
    if not token.allows(scopes[scope]):
        raise ForbiddenError(
            "this token may not do that", where="token", found=_listed(token.scopes), expected=f"the scope {scope}"
        )


def refuse_nul(request: Request) -> None:
    """No name, path or query holds a NUL, and not every database can compare with one."""
    path = request.scope["path"]
    if b"%00" in request.scope["query_string"] or "\0" in path or "%00" in path:
        raise InputError("a NUL character", where="the request's address")


def _refuse_foreign_page(request: Request) -> None:
    """Without tokens any web page the user has open could write here: a browser names the page in Origin."""
    origin = request.headers.get("origin")
    if origin is not None and not is_loopback(urlsplit(origin).hostname or ""):
        raise ForbiddenError("a page of another site may not call this service", where="header Origin", found=origin)


def _listed(values: frozenset[str]) -> str:
    return ", ".join(sorted(values)) or "nothing"
