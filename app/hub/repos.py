"""Making, changing and deleting repos."""

from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from pydantic import Field

from app.api.auth import check_write
from app.api.services import Pot
from app.hub.auth import Publisher, Visitor, writable_repo
from app.hub.bodies import HubBody, sent
from app.hub.card_check import findings
from app.hub.errors import CardError, RepoExistsError
from app.hub.route import hub_router
from app.hub.whoami import home_of
from app.names import check_name, split_name
from app.store.records import ANY_NAMESPACE, Token
from merge_core.errors import ConflictError, InputError, UnsupportedError

router = hub_router()
MODEL = "model"
CARD_BYTES = 16 << 20

Visibility = Literal["public", "private"]


class Named(HubBody):
    """A repo by its name; `organization` is its namespace."""

    name: str
    organization: str | None = None
    kind: str | None = Field(None, alias="type")


class RepoWish(Named):
    """A repo to make."""

    private: bool | None = None
    visibility: Visibility | None = None


class Move(HubBody):
    """Another name for a repo."""

    source: str = Field(alias="fromRepo")
    target: str = Field(alias="toRepo")
    kind: str | None = Field(None, alias="type")


class Settings(HubBody):
    """What to change of a repo."""

    private: bool | None = None
    visibility: Visibility | None = None
    gated: Literal["auto", "manual", False] | None = None


class Card(HubBody):
    """A README to look at."""

    content: str


@router.post("/api/repos/create")
def created(
    request: Request, caller: Publisher, pot: Pot, wish: Annotated[RepoWish, Depends(sent(RepoWish))]
) -> dict[str, Any]:
    """409 when it is there, with its address all the same."""
    namespace, name = _place(caller, wish)
    check_write(caller, namespace)
    url = f"{request.base_url}{namespace}/{name}"
    try:
        repo = pot.store.create_repo(namespace, name, bool(_is_private(wish)))
    except ConflictError as error:
        exists = RepoExistsError("this repo exists", where="repo", found=error.found)
        exists.url = url
        raise exists from None
    return {"url": url, "name": repo.full_name, "id": f"{repo.id:024x}"}


@router.delete("/api/repos/delete")
def deleted(caller: Publisher, pot: Pot, named: Annotated[Named, Depends(sent(Named))]) -> dict[str, Any]:
    """With all its commits; what was composed from it stays."""
    namespace, name = _place(caller, named)
    pot.store.delete_repo(writable_repo(pot, caller, namespace, name))
    return {}


@router.post("/api/repos/move")
def moved(request: Request, caller: Publisher, pot: Pot, wish: Annotated[Move, Depends(sent(Move))]) -> dict[str, Any]:
    """Under another name, also in another namespace; the old name is free."""
    _check_kind(wish.kind)
    namespace, name = split_name(wish.target, "toRepo")
    repo = writable_repo(pot, caller, *split_name(wish.source, "fromRepo"))
    check_write(caller, namespace)
    return {"url": f"{request.base_url}{pot.store.move_repo(repo, namespace, name).full_name}"}


@router.put("/api/models/{namespace}/{name}/settings")
def changed(
    caller: Publisher, pot: Pot, namespace: str, name: str, wish: Annotated[Settings, Depends(sent(Settings))]
) -> dict[str, Any]:
    """Who sees the repo, and who may read its files."""
    repo = writable_repo(pot, caller, namespace, name)
    private = _is_private(wish)
    if private is not None:
        repo = pot.store.set_visibility(repo, private)
    if wish.gated is not None:
        repo = pot.store.set_gate(repo, wish.gated or "")
    visibility: Visibility = "private" if repo.private else "public"
    return {"private": repo.private, "visibility": visibility, "gated": repo.gated or False}


@router.post("/api/validate-yaml")
def checked(caller: Visitor, card: Annotated[Card, Depends(sent(Card, CARD_BYTES))]) -> dict[str, Any]:
    """Whether a card's front matter can be taken. Raises CardError when not."""
    errors, warnings = findings(card.content)
    if errors:
        error = CardError(f"the card's metadata is invalid: {'; '.join(errors)}", where="content")
        error.reasons = errors
        raise error
    return {"errors": [], "warnings": [{"message": warning} for warning in warnings]}


def _place(caller: Token, named: Named) -> tuple[str, str]:
    """Namespace and name: without one, the namespace that the token has."""
    _check_kind(named.kind)
    namespace, slash, name = named.name.rpartition("/")
    given = namespace if slash else named.organization
    if given is None:
        given = _own(caller)
    return check_name(given, "organization"), check_name(name, "name")


def _check_kind(kind: str | None) -> None:
    if kind not in (None, MODEL):
        raise UnsupportedError("only models are kept here", where="type", found=kind, expected=MODEL)


def _own(caller: Token) -> str:
    """What `whoami` calls the token's, unless it has several namespaces: nobody could tell which was meant."""
    if len(caller.namespaces) > 1 and ANY_NAMESPACE not in caller.namespaces:
        raise InputError("this token has several namespaces", where="name", expected="namespace/name")
    return home_of(caller)


def _is_private(wish: RepoWish | Settings) -> bool | None:
    return wish.private if wish.visibility is None else wish.visibility == "private"
