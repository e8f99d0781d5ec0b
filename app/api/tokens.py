"""Making, listing and revoking tokens: for admins."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from app.api.auth import Admin
from app.api.bodies import Body, body_of, documented
from app.api.services import Pot
from app.api.shapes import Listing, NewToken, TokenShape
from app.names import check_name
from app.store.records import ANY_NAMESPACE, Scope, Token
from merge_core.errors import ConflictError, ForbiddenError

router = APIRouter(prefix="/v1/tokens", tags=["tokens"])


class TokenWish(Body):
    """A token to make."""

    name: Annotated[str, Field(min_length=1, max_length=100, description="who or what it is for", examples=["ci"])]
    scopes: Annotated[
        list[Scope],
        Field(min_length=1, max_length=3, description="each includes those before it", examples=[["write"]]),
    ]
    namespaces: Annotated[
        list[str],
        Field(min_length=1, max_length=1000, description="where it may write and read private repos, '*': all"),
    ] = [ANY_NAMESPACE]  # noqa: RUF012 (frozen by the model)


@router.post("", status_code=201, summary="Make a token", **documented(TokenWish))
def make(token: Admin, pot: Pot, wish: Annotated[TokenWish, Depends(body_of(TokenWish))]) -> NewToken:
    """The secret is in this answer and nowhere else."""
    _check_reach(token, wish.namespaces)
    return NewToken.made(*pot.store.create_token(wish.name, set(wish.scopes), set(wish.namespaces)))


@router.get("", summary="List the tokens")
def listed(token: Admin, pot: Pot) -> Listing[TokenShape]:
    """Without their secrets; an admin of some namespaces sees the tokens within them."""
    return Listing(items=[TokenShape.of(other) for other in pot.store.list_tokens() if _within(token, other)])


@router.delete("/{token_id}", status_code=204, summary="Revoke a token")
def revoke(token: Admin, pot: Pot, token_id: str) -> None:
    """It opens nothing from the next request on, of another process of the service a second later.

    The last admin token of all stays: nobody could make another.
    """
    tokens = pot.store.list_tokens()
    chosen = next((other for other in tokens if other.id == token_id), None)
    if chosen is not None and not _within(token, chosen):
        raise ForbiddenError("this token reaches beyond yours", where=f"token '{token_id}'")
    if chosen is not None and [other.id for other in tokens if _rules_all(other)] == [token_id]:
        raise ConflictError("this is the last admin token", where=f"token '{token_id}'", expected="another made first")
    pot.store.revoke_token(token_id)


def _check_reach(token: Token, namespaces: list[str]) -> None:
    for index, namespace in enumerate(namespaces):
        if namespace != ANY_NAMESPACE:
            check_name(namespace, f"namespaces[{index}]")
        if not token.namespaces & {ANY_NAMESPACE, namespace}:
            raise ForbiddenError("a token cannot reach further than its maker's", where=f"namespace '{namespace}'")


def _within(token: Token, other: Token) -> bool:
    return ANY_NAMESPACE in token.namespaces or other.namespaces <= token.namespaces


def _rules_all(token: Token) -> bool:
    return "admin" in token.scopes and ANY_NAMESPACE in token.namespaces
