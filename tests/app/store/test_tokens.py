import time

import pytest

from app.store.records import EVERYBODY, Token
from app.store.store import Store
from app.store.tokens import RECENT_S, Recent
from merge_core.errors import InputError, NotFoundError


def test_a_secret_finds_its_token_and_no_other(store: Store) -> None:
    assert not store.has_tokens()
    token, secret = store.create_token("ci", {"write"}, {"team"})
    other, _ = store.create_token("ops", {"admin"}, {"*"})
    assert store.find_token(secret) == token
    assert store.find_token(secret + "x") is None
    assert store.find_token("\ud800") is None
    assert [found.id for found in store.list_tokens()] == [token.id, other.id]
    assert store.has_tokens()


def test_a_revoked_token_opens_nothing(store: Store) -> None:
    token, secret = store.create_token("ci", {"read"}, {"team"})
    store.revoke_token(token.id)
    assert store.find_token(secret) is None
    with pytest.raises(NotFoundError):
        store.revoke_token(token.id)


def test_a_token_that_another_process_revokes_is_soon_unknown(store: Store) -> None:
    token, secret = store.create_token("ci", {"read"}, {"team"})
    assert store.find_token(secret) == token
    assert store.needs_token()
    assert store.knows_caller(secret)
    other = Store(store._database.engine.url.render_as_string(hide_password=False))
    other.revoke_token(token.id)
    other.close()
    deadline = time.monotonic() + RECENT_S
    while store.find_token(secret) is not None:
        assert time.monotonic() <= deadline + RECENT_S / 2
    assert not store.knows_caller(secret)


def test_what_was_being_read_during_a_change_is_not_kept() -> None:
    recent: Recent[str] = Recent()

    def read_late() -> str:
        recent.forget()
        return "before"

    assert recent.of("key", read_late) == "before"
    assert not recent.has("key")
    assert [recent.of("key", lambda: "after"), recent.of("key", lambda: "later")] == ["after", "after"]


def test_a_scope_includes_those_before_it_in_its_namespaces_only(store: Store) -> None:
    writer, _ = store.create_token("ci", {"write"}, {"team"})
    assert writer.allows("read", "team")
    assert writer.allows("write", "team")
    assert not writer.allows("admin", "team")
    assert not writer.allows("write", "other")
    assert EVERYBODY.allows("admin", "anything")


@pytest.mark.parametrize(("scopes", "namespaces"), [({"wriet"}, {"team"}), (set(), {"team"}), ({"read"}, set())])
def test_a_token_without_a_known_scope_or_a_namespace_is_refused(
    store: Store, scopes: set[str], namespaces: set[str]
) -> None:
    with pytest.raises(InputError):
        store.create_token("ci", scopes, namespaces)


def test_the_nearest_scope_is_suggested(store: Store) -> None:
    with pytest.raises(InputError, match="'write'"):
        store.create_token("ci", {"wriet"}, {"team"})


def test_the_secret_is_not_in_the_token(store: Store) -> None:
    token, secret = store.create_token("ci", {"read"}, {"team"})
    assert isinstance(token, Token)
    assert secret not in repr(token)
