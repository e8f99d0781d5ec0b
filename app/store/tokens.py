"""Tokens: 256 random bits each, kept as a hash."""

import hmac
import secrets
import time
from collections.abc import Callable, Collection
from hashlib import sha256
from threading import Lock
from typing import Any, Generic, TypeVar

from sqlalchemy import Row, delete, insert, select

from app.store.database import Database
from app.store.records import SCOPES, Token
from app.store.subject import Subject, new_id, now
from app.store.tables import tokens
from merge_core.errors import InputError, NotFoundError, nearest

SECRET_PREFIX = "pot_"  # so that secret scanners and people recognise it
RECENT_S = 1.0
"""How long after a token is made or revoked in one process another may go by what it has read before."""
MOST_RECENT = 1000

Held = TypeVar("Held")


class Recent(Generic[Held]):
    """What was read at most `RECENT_S` ago, and not before this process last changed it."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, Held]] = {}
        self._changes = 0
        self._lock = Lock()

    def has(self, key: str) -> bool:
        """True when `of` need not load."""
        held = self._held.get(key)
        return held is not None and time.monotonic() - held[0] < RECENT_S

    def of(self, key: str, load: Callable[[], Held]) -> Held:
        """The value, loaded where it is not here."""
        held, changes, moment = self._held.get(key), self._changes, time.monotonic()
        if held is not None and moment - held[0] < RECENT_S:
            return held[1]
        value = load()
        with self._lock:
            if changes == self._changes and value is not None:
                if len(self._held) >= MOST_RECENT:
                    self._held.clear()
                self._held[key] = (moment, value)
        return value

    def forget(self) -> None:
        """What was read until now, or is being read, counts no more."""
        with self._lock:
            self._changes += 1
            self._held.clear()


class TokenRecords(Subject):
    """Who may do what."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._tokens: Recent[Token | None] = Recent()
        self._is_closed: Recent[bool] = Recent()

    def create_token(self, name: str, scopes: Collection[str], namespaces: Collection[str]) -> tuple[Token, str]:
        """A new token and its secret, which is shown this once."""
        _check_scopes(scopes)
        if not namespaces:
            raise InputError("a token needs a namespace", where="namespaces", found="none", expected="names, or '*'")
        secret = SECRET_PREFIX + secrets.token_urlsafe(32)
        token = Token(new_id(), name, frozenset(scopes), frozenset(namespaces), now())
        with self._database.write() as connection:
            connection.execute(insert(tokens).values(**_columns(token), secret_sha256=_hash(secret)))
        self._forget()
        return token, secret

    def find_token(self, secret: str) -> Token | None:
        """The token with this secret; one that another process revokes is found for up to `RECENT_S`."""
        wanted = _hash(secret)
        return self._tokens.of(wanted, lambda: self._read_token(wanted))

    def needs_token(self) -> bool:
        """`has_tokens`, as it was at most `RECENT_S` ago, where another process has made the first one since."""
        return self._is_closed.of("", self.has_tokens)

    def knows_caller(self, secret: str | None) -> bool:
        """True when neither `needs_token` nor `find_token` of this secret has to ask the database."""
        return self._is_closed.has("") and (secret is None or self._tokens.has(_hash(secret)))

    def _read_token(self, wanted: str) -> Token | None:
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
        self._forget()

    def _forget(self) -> None:
        self._tokens.forget()
        self._is_closed.forget()

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
