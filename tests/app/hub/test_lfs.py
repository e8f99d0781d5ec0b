"""Large files by LFS: whole and in parts, over again, and never by who only knows a hash."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from typing import Any

import httpx
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from tests.app.api.conftest import Pot
from tests.app.hub.conftest import BY_LFS, Hub, held, publish

REPO = "team/mine"
BATCH = f"/{REPO}.git/info/lfs/objects/batch"
CHUNK = 1 << 20
BODY = bytes(range(256)) * 9000
DIGEST = sha256(BODY).hexdigest()

pytestmark = BY_LFS


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.hub.lfs.CHUNK_BYTES", CHUNK)


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client with a repo of its own."""
    api = hub()
    api.create_repo(REPO)
    return api


def asked(
    client: httpx.Client, oid: str = DIGEST, size: int = len(BODY), transfers: tuple[str, ...] = ("basic", "multipart")
) -> dict[str, Any]:
    body = {"operation": "upload", "transfers": transfers, "objects": [{"oid": oid, "size": size}]}
    answer = client.post(BATCH, json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["objects"][0])


def parts_of(one: dict[str, Any]) -> list[str]:
    header = one["actions"]["upload"]["header"]
    assert int(header["chunk_size"]) == CHUNK
    return [header[number] for number in sorted(header) if number.isdigit()]


def sent(url: str, number: int, content: bytes = BODY) -> dict[str, Any]:
    answer = httpx.put(url, content=content[number * CHUNK : (number + 1) * CHUNK])
    assert answer.status_code == 200, answer.text
    return {"partNumber": number + 1, "etag": answer.headers["ETag"]}


def joined(one: dict[str, Any], parts: list[dict[str, Any]]) -> httpx.Response:
    return httpx.post(one["actions"]["upload"]["href"], json={"oid": one["oid"], "parts": parts}, timeout=30)


def uploads(pot: Pot) -> list[str]:
    return [path.name for path in (pot.data / "uploads").glob("*")]


def test_a_large_file_goes_in_parts_and_is_not_sent_twice(pot: Pot, api: HfApi) -> None:
    api.upload_file(path_or_fileobj=BODY, path_in_repo="w.bin", repo_id=REPO)
    assert held(pot, REPO) == {"w.bin": BODY}
    assert uploads(pot) == []
    with pot.client() as client:
        assert asked(client) == {"oid": DIGEST, "size": len(BODY)}


def test_a_file_that_is_sent_whole_arrives(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    one = asked(client, transfers=("basic",))
    assert httpx.put(one["actions"]["upload"]["href"], content=BODY).status_code == 200
    file = {"oid": DIGEST, "size": len(BODY)}
    assert httpx.post(one["actions"]["verify"]["href"], json=file).status_code == 200
    assert asked(client) == file


def test_parts_come_in_any_order_and_side_by_side(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    one = asked(client)
    urls = parts_of(one)
    with ThreadPoolExecutor(3) as threads:
        parts = list(threads.map(lambda number: sent(urls[number], number), reversed(range(len(urls)))))
    assert joined(one, parts).status_code == 200
    assert b"".join(pot.inside.blobs.read(DIGEST)) == BODY


def test_joining_may_be_asked_for_again_and_at_once(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    one = asked(client)
    parts = [sent(url, number) for number, url in enumerate(parts_of(one))]
    with ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: joined(one, parts), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert joined(one, parts).status_code == 200


def test_a_part_that_broke_off_is_sent_again(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    one = asked(client)
    urls = parts_of(one)

    def cut() -> Iterator[bytes]:
        yield BODY[: CHUNK // 2]
        raise ConnectionAbortedError

    with pytest.raises(ConnectionAbortedError):
        httpx.put(urls[0], content=cut(), headers={"Content-Length": str(CHUNK)})
    assert httpx.put(urls[1], content=b"short").status_code == 400
    assert httpx.put(urls[1], content=BODY[: CHUNK + 1]).status_code == 413
    parts = [sent(url, number) for number, url in enumerate(urls)]
    assert joined(one, parts).status_code == 200


def test_parts_that_are_missing_or_wrong_are_no_file(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    one = asked(client)
    parts = [sent(url, number, b"x" * len(BODY)) for number, url in enumerate(parts_of(one))]
    for named in (parts[1:], [*parts, {"partNumber": 9, "etag": "x"}], [{**parts[0], "etag": "x"}, *parts[1:]]):
        assert joined(one, named).status_code == 400
    wrong = joined(one, parts)
    assert (wrong.status_code, wrong.json()["expected"]) == (400, DIGEST)
    assert uploads(pot) == []
    assert joined(one, parts).status_code == 404
    assert pot.inside.store.blob_size(DIGEST) is None


def test_a_file_that_is_not_what_was_announced_is_refused(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    one = asked(client, transfers=("basic",))
    href = one["actions"]["upload"]["href"]
    assert httpx.put(href, content=b"x" * len(BODY)).status_code == 400
    assert httpx.put(href, content=BODY[:-1]).status_code == 400
    assert httpx.put(href, content=BODY + b"x").status_code == 413
    assert httpx.post(one["actions"]["verify"]["href"], json={"oid": DIGEST, "size": len(BODY)}).status_code == 404
    assert uploads(pot) == []


def test_an_address_is_good_for_its_file_and_its_token_alone(pot: Pot, hub: Hub, api: HfApi) -> None:
    admin, mine = pot.token("admin"), pot.token("write", namespaces=("team",))
    with pot.client(mine) as caller:
        whole, other = (asked(caller, oid, transfers=("basic",)) for oid in (DIGEST, sha256(b"other").hexdigest()))
    href = whole["actions"]["upload"]["href"]
    for forged in (href[:-4] + "AAAA", href.split("ticket=")[0] + "ticket=x.y", href.replace("ticket=", "ticket=A")):
        assert httpx.put(forged, content=BODY).status_code == 401
    assert httpx.put(other["actions"]["upload"]["href"], content=BODY).status_code == 400
    with pot.client(admin) as ruler:
        listed = ruler.get("/v1/tokens").json()["items"]
        for token in listed:
            if token["namespaces"] == ["team"]:
                ruler.delete(f"/v1/tokens/{token['id']}").raise_for_status()
    assert httpx.put(href, content=BODY).status_code == 401


def test_an_address_does_not_outlive_its_time_or_its_repo(
    pot: Pot, client: httpx.Client, api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    href = asked(client, transfers=("basic",))["actions"]["upload"]["href"]
    api.delete_repo(REPO)
    assert httpx.put(href, content=BODY).status_code == 404
    api.create_repo(REPO)
    monkeypatch.setattr("app.hub.lfs.LASTS_S", -1)
    over = asked(client, transfers=("basic",))["actions"]["upload"]["href"]
    assert httpx.put(over, content=BODY).status_code == 401


def test_a_hash_alone_gives_nobody_the_bytes(pot: Pot, hub: Hub) -> None:
    mine, theirs = (pot.token("write", namespaces=(name,)) for name in ("team", "others"))
    publish(pot, "team/secret", {"w.dat": BODY}, mine, private=True)
    publish(pot, "others/open", {"x.txt": b"x"}, theirs)
    thief = hub(theirs)
    with pot.client(theirs) as caller:
        body = {"operation": "upload", "objects": [{"oid": DIGEST, "size": len(BODY)}]}
        one = caller.post("/others/open.git/info/lfs/objects/batch", json=body).json()["objects"][0]
        assert "upload" in one["actions"]
        assert caller.post("/team/secret.git/info/lfs/objects/batch", json=body).status_code == 404
        lines = (
            b'{"key":"header","value":{"summary":"s"}}\n'
            b'{"key":"lfsFile","value":{"path":"w.dat","oid":"%s","size":%d}}' % (DIGEST.encode(), len(BODY))
        )
        answer = caller.post("/api/models/others/open/commit/main", content=lines)
        assert answer.status_code == 400
        unknown = caller.post("/api/models/others/open/commit/main", content=lines.replace(DIGEST.encode(), b"0" * 64))
        assert unknown.json()["error"].replace("0" * 64, DIGEST) == answer.json()["error"]
        fetched = {**body, "operation": "download"}
        told = caller.post("/others/open.git/info/lfs/objects/batch", json=fetched).json()["objects"][0]
        assert told["error"]["code"] == 404
        assert caller.get(f"/others/open.git/info/lfs/objects/{DIGEST}").status_code == 404
    thief.create_commit("others/open", [CommitOperationAdd("w.dat", BODY)], commit_message="Sent in full")
    assert held(pot, "others/open")["w.dat"] == BODY


def test_git_fetches_by_hash_what_the_repo_has(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    publish(pot, REPO, {"w.dat": BODY})
    body = {"operation": "download", "transfers": ["basic"], "objects": [{"oid": DIGEST, "size": len(BODY)}]}
    one = client.post(BATCH, json=body).json()["objects"][0]
    assert httpx.get(one["actions"]["download"]["href"]).content == BODY


def test_what_is_asked_wrongly_is_told_for_each_file(pot: Pot, client: httpx.Client, api: HfApi) -> None:
    assert asked(client, oid="xyz")["error"]["code"] == 422
    assert asked(client, size=1 << 40)["error"]["code"] == 413
    for body in ({"operation": "steal", "objects": []}, {"operation": "upload"}, {"operation": "upload", "objects": 3}):
        assert client.post(BATCH, json=body).status_code == 400


def test_parts_that_nobody_goes_on_with_are_gone_after_a_day(
    pot: Pot, client: httpx.Client, api: HfApi, backdate: Callable[[], None]
) -> None:
    sent(parts_of(asked(client))[0], 0)
    pot.inside.blobs.clean_uploads()
    assert len(uploads(pot)) == 1
    backdate()
    pot.inside.blobs.clean_uploads()
    assert uploads(pot) == []


@pytest.fixture
def backdate(pot: Pot) -> Callable[[], None]:
    """Make all uploads a day old."""

    def aged() -> None:
        for path in (pot.data / "uploads").glob("*"):
            os.utime(path, (0, 0))

    return aged
