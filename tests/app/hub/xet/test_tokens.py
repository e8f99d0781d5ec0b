"""Access to the Xet routes: for writers, for an hour, as long as their token lasts."""

import httpx
import pytest
from huggingface_hub.utils._xet import parse_xet_connection_info_from_headers

from app.hub.signing import sign
from app.hub.xet.tokens import PURPOSE
from tests.app.api.conftest import Pot
from tests.app.hub.xet.building import hash_of, xorb_of
from tests.app.hub.xet.conftest import Cas, opened

CHUNKS = [b"data"]
ROUTE = "/api/models/team/math/xet-write-token/main"


def sends(cas: Cas, access: str | None = None) -> httpx.Response:
    return Cas(cas.pot, access or cas.access, cas.address).xorb(hash_of(CHUNKS), xorb_of(CHUNKS))


def test_access_is_told_in_body_and_headers_and_names_the_host_that_was_asked(pot: Pot) -> None:
    with pot.client() as client:
        client.put("/v1/repos/team/math", json={}).raise_for_status()
        answer = client.get(f"{ROUTE}?create_pr=1", headers={"Host": "pot.example:81", "X-Forwarded-Proto": "https"})
    info = parse_xet_connection_info_from_headers(answer.headers)
    assert info is not None
    assert answer.json() == {
        "casUrl": "https://pot.example:81/xet",
        "exp": info.expiration_unix_epoch,
        "accessToken": info.access_token,
    }
    assert info.endpoint == "https://pot.example:81/xet"


def test_it_is_for_writers_of_repos_that_they_may_know_of(pot: Pot) -> None:
    admin = pot.token("admin")
    with pot.client(admin) as client:
        client.put("/v1/repos/team/math", json={"private": True}).raise_for_status()
        client.put("/v1/repos/team/open", json={}).raise_for_status()
    foreign, reading = pot.token("write", namespaces=("other",)), pot.token("read", namespaces=("team",))
    with pot.client(foreign) as client:
        hidden, missing, shown = (
            client.get(f"/api/models/team/{name}/xet-write-token/main") for name in ("math", "none", "open")
        )
    assert hidden.status_code == missing.status_code == 404
    assert hidden.headers["X-Error-Code"] == missing.headers["X-Error-Code"] == "RepoNotFound"
    assert shown.status_code == 403
    with pot.client(reading) as client:
        assert client.get(ROUTE).status_code == 403
        assert client.get(ROUTE.replace("write", "read")).status_code == 404
    with pot.client() as client:
        assert client.get(ROUTE).status_code == 401


@pytest.mark.parametrize("access", ["open", ".", "a.b", "é.é", "W10.x", "x" * 10000])
def test_what_is_no_access_opens_nothing(pot: Pot, access: str) -> None:
    pot.token("write")
    headers = {"Authorization": f"Bearer {access}".encode()}
    answer = httpx.post(f"{pot.url}/xet/v1/xorbs/default/{hash_of(CHUNKS)}", content=xorb_of(CHUNKS), headers=headers)
    assert answer.status_code == 401


def test_it_ends_with_its_token_and_its_time_and_is_for_this_alone(pot: Pot) -> None:
    secret = pot.token("write")
    cas, store = opened(pot, secret), pot.inside.store
    token = store.find_token(secret)
    assert token is not None
    assert sends(cas).status_code == 200
    assert sends(cas, secret).status_code == 401, "the token itself is not to be sent there"
    assert sends(cas, sign(pot.inside, token, "lfs", {}, 60)).status_code == 401
    assert sends(cas, sign(pot.inside, token, PURPOSE, {}, -2)).status_code == 401
    assert sends(cas, cas.access[:-2] + "AA").status_code == 401
    with pot.client(cas.access) as client:
        assert client.get("/v1/repos").status_code == 401
    store.revoke_token(token.id)
    pot.token("read")
    assert sends(cas).status_code == 401


def test_access_to_an_open_service_ends_with_its_first_token(pot: Pot) -> None:
    cas = opened(pot)
    assert sends(cas).status_code == 200
    pot.token("read")
    assert sends(cas).status_code == 401
