"""Who is asking by the Hub protocol: a token of ours, or nobody, who sees what is public."""

from typing import Annotated

from fastapi import Depends, Request

from app.api.auth import Credentials, check_scope, check_write, everybody, refuse_nul
from app.api.services import Pot, Services
from app.hub.errors import BadTokenError, gated, missing_repo
from app.names import check_name
from app.store.records import Repo, Token, may_read, may_read_files
from merge_core.errors import InputError, UnauthorizedError

INVALID = "Invalid credentials in Authorization header"


def visitor(request: Request, credentials: Credentials, pot: Pot) -> Token | None:
    """The caller's token; None without one. Raises BadTokenError for one that is not known."""
    refuse_nul(request)
    open_to_all = everybody(request, pot)
    if open_to_all is not None or credentials is None:
        return open_to_all
    token = pot.store.find_token(credentials.credentials)
    if token is None:
        raise BadTokenError(INVALID)
    check_scope(token, "read")
    return token


Visitor = Annotated[Token | None, Depends(visitor)]


def publisher(caller: Visitor) -> Token:
    """The same, who must have a token that may write somewhere."""
    if caller is None:
        raise UnauthorizedError("a token is needed to publish", where="header Authorization", expected="Bearer …")
    check_scope(caller, "write")
    return caller


Publisher = Annotated[Token, Depends(publisher)]


def visible_repo(pot: Services, caller: Token | None, namespace: str, name: str) -> Repo:
    """The repo; the same error whether it does not exist or is hidden from the caller."""
    try:
        repo = pot.store.get_repo(check_name(namespace, "namespace"), check_name(name, "name"))
    except InputError:  # no repo has such a name
        repo = None
    if repo is None or not may_read(caller, repo):
        raise missing_repo(caller, f"{namespace}/{name}")
    return repo


def open_repo(pot: Services, caller: Token | None, namespace: str, name: str) -> Repo:
    """The repo, whose files the caller may read."""
    repo = visible_repo(pot, caller, namespace, name)
    if not may_read_files(caller, repo):
        raise gated(caller, repo.full_name)
    return repo


def writable_repo(pot: Services, caller: Token, namespace: str, name: str) -> Repo:
    """The repo, which the caller may change."""
    repo = visible_repo(pot, caller, namespace, name)
    check_write(caller, repo.namespace)
    return repo
