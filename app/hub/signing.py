"""Signed tickets: what a client hands back in place of its token, good for one purpose and a while.

Clients send no Authorization header to the addresses that they are told to upload to. A ticket names the token that
it was made for and is signed with that token's hash, so it stops with the token.
"""

import hmac
import json
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import Request

from app.api.auth import everybody
from app.api.services import Services
from app.store.records import EVERYBODY, Token
from merge_core.errors import UnauthorizedError

LONGEST = 4096
OPEN_KEY = b"open"
"""Signs nothing of worth: without tokens everybody may do everything, and the first token ends that."""

Claims = Mapping[str, str | int]


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket that is good: whose it is, and what it is about."""

    token: Token
    claims: Claims

    def text(self, name: str) -> str:
        """A claim that is text."""
        return str(self.claims[name])

    def number(self, name: str) -> int:
        """A claim that is a number."""
        return int(self.claims[name])


def sign(pot: Services, caller: Token, purpose: str, claims: Claims, lasts_s: int) -> str:
    """A ticket that says these `claims` for `purpose`, in letters that addresses may have."""
    known = pot.store.token_and_key(caller.id)
    key = OPEN_KEY if known is None else known[1]
    content = [purpose, caller.id, int(time.time()) + lasts_s, dict(claims)]
    body = _encoded(json.dumps(content, separators=(",", ":")).encode())
    return f"{body}.{_signature(key, body)}"


def redeem(request: Request, pot: Services, text: str, purpose: str) -> Ticket:
    """What a ticket says. Raises UnauthorizedError for one that is forged, for something else, over or revoked."""
    body, _, signature = text[:LONGEST].partition(".")
    found, holder, until, claims = _content(body)
    token, key = _holder(request, pot, str(holder))
    if not hmac.compare_digest(signature.encode(), _signature(key, body).encode()) or found != purpose:
        raise _refused("forged, or not for this")
    if not isinstance(until, int) or until < time.time() or not isinstance(claims, dict):
        raise _refused("over")
    return Ticket(token, claims)


def _holder(request: Request, pot: Services, token_id: str) -> tuple[Token, bytes]:
    if token_id == EVERYBODY.id and everybody(request, pot) is not None:
        return EVERYBODY, OPEN_KEY
    known = pot.store.token_and_key(token_id)
    if known is None:
        raise _refused("of a token that is not known any more")
    return known


def _content(body: str) -> list[object]:
    try:
        content = json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, RecursionError, Base64Error):
        content = None
    if not isinstance(content, list) or len(content) != 4:
        raise _refused("not a ticket")
    return content


def _encoded(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def _signature(key: bytes, body: str) -> str:
    return _encoded(hmac.digest(key, body.encode(), "sha256"))


def _refused(reason: str) -> UnauthorizedError:
    return UnauthorizedError("this address is not good", where="ticket", found=reason, expected="a fresh one")
