"""Tokens: 256 random bits each, kept as a hash."""

import hmac
import secrets
from collections.abc import Collection
from hashlib import sha256
from typing import Any

from sqlalchemy import Row, delete, insert, select

from app.store.records import SCOPES, Token
from app.store.subject import Subject, new_id, now
from app.store.tables import tokens
from merge_core.errors import InputError, NotFoundError, nearest

SECRET_PREFIX = "pot_"  # so that secret scanners and people recognise it


class TokenRecords(Subject):
    """Who may do what."""

    def create_token(self, name: str, scopes: Collection[str], namespaces: Collection[str]) -> tuple[Token, str]:
        """A new token and its secret, which is shown this once."""
        _check_scopes(scopes)
        if not namespaces:
            raise InputError("a token needs a namespace", where="namespaces", found="none", expected="names, or '*'")
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        token = Token(new_id(), name, frozenset(scopes), frozenset(namespaces), now())
        with self._database.write() as connection:
            connection.execute(insert(tokens).values(**_columns(token), secret_sha256=_hash(secret)))
        return token, secret

    def find_token(self, secret: str) -> Token | None:
        """The token with this secret."""
        wanted = _hash(secret)
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.secret_sha256 == wanted)).one_or_none()
        if row is None or not hmac.compare_digest(row.secret_sha256, wanted):
            return None
        return _token(row)

    def token_and_key(self, token_id: str) -> tuple[Token, bytes] | None:
        """The token of this id, and a key that the service signs with in its name until it is revoked."""
        with self._database.read() as connection:
            row = connection.execute(select(tokens).where(tokens.c.id == token_id)).one_or_none()
        return None if row is None else (_token(row), hmac.digest(row.secret_sha256.encode(), b"signing", "sha256"))

    def list_tokens(self) -> list[Token]:
        """All of them, the oldest first."""
        with self._database.read() as connection:
            return [_token(row) for row in connection.execute(select(tokens).order_by(tokens.c.created_at))]

    def revoke_token(self, token_id: str) -> None:
        """Its secret opens nothing from now on."""
        with self._database.write() as connection:
            if not connection.execute(delete(tokens).where(tokens.c.id == token_id)).rowcount:
                raise NotFoundError("no such token", where="token", found=token_id)

    def has_tokens(self) -> bool:
        """True once a token exists: then the service is closed to callers without one."""
        with self._database.read() as connection:
            return connection.execute(select(tokens.c.id).limit(1)).first() is not None


def _check_scopes(scopes: Collection[str]) -> None:
    for scope in scopes or ("",):
        if scope not in SCOPES:
            raise InputError("no such scope", where="scopes", found=repr(scope), expected=nearest(scope, SCOPES))


def _hash(secret: str) -> str:
    return sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _columns(token: Token) -> dict[str, Any]:
    lists = {"scopes": sorted(token.scopes), "namespaces": sorted(token.namespaces)}
    return {"id": token.id, "name": token.name, "created_at": token.created_at} | lists


def _token(row: Row[Any]) -> Token:
    return Token(row.id, row.name, frozenset(row.scopes), frozenset(row.namespaces), row.created_at)
