"""Uploads in parts, commits of several files, and whose bytes are whose."""

from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import httpx
import pytest

from tests.app.api.conftest import Pot

BODY = bytes(range(256)) * 100
DIGEST = sha256(BODY).hexdigest()
REPO = "/v1/repos/team/math"
FILE = f"{REPO}/files/model.bin"


def part(client: httpx.Client, first: int, stop: int, *, body: bytes = BODY, path: str = FILE) -> httpx.Response:
    headers = {"Content-Range": f"bytes {first}-{stop - 1}/{len(BODY)}", "X-Content-SHA256": DIGEST}
    return client.put(path, content=body[first:stop], headers=headers)


def received(client: httpx.Client) -> int:
    return int(client.get(f"{REPO}/uploads/{DIGEST}").json()["received"])


def test_an_upload_in_parts_becomes_the_file(client: httpx.Client) -> None:
    first = part(client, 0, 10_000)
    assert (first.status_code, first.json()["received"]) == (202, 10_000)
    assert received(client) == 10_000
    assert part(client, 10_000, 20_000).status_code == 202
    assert part(client, 20_000, len(BODY)).status_code == 201
    assert client.get(FILE).content == BODY
    assert received(client) == len(BODY)


def test_a_part_that_does_not_follow_says_where_to_go_on(client: httpx.Client) -> None:
    part(client, 0, 10_000)
    for first in (0, 5_000, 15_000):
        refused = part(client, first, 20_000)
        assert refused.status_code == 409
        assert refused.json()["expected"] == "bytes from 10000"
    assert received(client) == 10_000


def test_parts_that_are_not_the_announced_file_are_thrown_away(client: httpx.Client) -> None:
    wrong = b"x" * len(BODY)
    part(client, 0, 10_000, body=wrong)
    refused = part(client, 10_000, len(BODY), body=wrong)
    assert refused.status_code == 422
    assert refused.json()["expected"] == DIGEST
    assert received(client) == 0
    assert client.get(REPO).status_code == 404


def test_an_answer_that_was_lost_can_be_asked_for_again(client: httpx.Client) -> None:
    asked = {"Content-Range": f"bytes */{len(BODY)}", "X-Content-SHA256": DIGEST}
    assert client.put(FILE, headers=asked).json() == {"sha256": DIGEST, "received": 0}
    part(client, 0, len(BODY))
    again = client.put(FILE, headers=asked)
    assert (again.status_code, again.json()["size"]) == (200, len(BODY))


@pytest.mark.parametrize(
    "value", ["bytes 0-1", "bytes 5-2/10", "bytes 0-10/10", "lines 0-1/10", "bytes -1-2/3", "bytes 0-1/*", "bytes */x"]
)
def test_a_content_range_that_is_none_is_refused(client: httpx.Client, value: str) -> None:
    refused = client.put(FILE, content=b"ab", headers={"Content-Range": value, "X-Content-SHA256": DIGEST})
    assert refused.status_code == 400
    assert refused.json()["where"] == "header Content-Range"


def test_parts_need_a_hash_and_keep_to_their_length(client: httpx.Client) -> None:
    assert client.put(FILE, content=b"ab", headers={"Content-Range": "bytes 0-1/10"}).status_code == 422
    headers = {"Content-Range": "bytes 0-1/10", "X-Content-SHA256": DIGEST}
    assert client.put(FILE, content=b"abcdef", headers=headers).status_code == 413


def test_a_total_beyond_the_limit_is_refused_at_the_first_part(pot: Pot, client: httpx.Client) -> None:
    total = pot.inside.settings.max_file_bytes + 1
    headers = {"Content-Range": f"bytes 0-1/{total}", "X-Content-SHA256": DIGEST}
    assert client.put(FILE, content=b"ab", headers=headers).status_code == 413


def test_several_files_become_one_commit(client: httpx.Client) -> None:
    contents = {"config.json": b"{}", "weights/a.bin": b"aaa", "weights/b.bin": b"bbb"}
    files = [{"path": path, "sha256": sha256(data).hexdigest(), "size": len(data)} for path, data in contents.items()]
    assert client.post(f"{REPO}/missing", json={"files": files}).json()["missing"] == files
    for data in contents.values():
        assert client.put(f"{REPO}/blobs/{sha256(data).hexdigest()}", content=data).status_code == 201
    assert client.post(f"{REPO}/missing", json={"files": files}).json()["missing"] == []
    named = [{"path": file["path"], "sha256": file["sha256"]} for file in files]
    made = client.post(f"{REPO}/commits", json={"message": "All", "files": named})
    assert made.status_code == 201
    assert client.get(f"{REPO}/files").json() == {"commit": made.json()["id"], "files": files}
    again = client.post(f"{REPO}/commits", json={"message": "All", "files": named})
    assert (again.status_code, again.json()["id"]) == (200, made.json()["id"])


def test_first_commits_of_one_repo_at_once_all_come_in(client: httpx.Client) -> None:
    client.put(f"{REPO}/blobs/{DIGEST}", content=BODY)

    def commit(number: int) -> int:
        return client.post(f"{REPO}/commits", json={"files": [{"path": f"{number}.bin", "sha256": DIGEST}]}).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(commit, range(8))) == {201}
    assert len(client.get(f"{REPO}/files").json()["files"]) == 8


def test_a_stale_parent_is_a_conflict(client: httpx.Client) -> None:
    first = client.put(FILE, content=b"one").json()["commit"]
    client.put(FILE, content=b"two")
    wish = {"parent": first, "deletes": ["model.bin"]}
    refused = client.post(f"{REPO}/commits", json=wish)
    assert refused.status_code == 409
    assert refused.json()["found"] == first


def test_a_commit_deletes_files(client: httpx.Client) -> None:
    client.put(FILE, content=b"one")
    client.put(f"{REPO}/files/other", content=b"two")
    assert client.post(f"{REPO}/commits", json={"deletes": ["model.bin"]}).status_code == 201
    assert [file["path"] for file in client.get(REPO).json()["files"]] == ["other"]
    missing = client.post(f"{REPO}/commits", json={"deletes": ["model.bin"]})
    assert (missing.status_code, missing.json()["where"]) == (404, "model.bin")


@pytest.mark.parametrize(
    ("wish", "where"),
    [
        ({}, "files"),
        ({"files": [{"path": "../a", "sha256": DIGEST}]}, "files[0].path"),
        ({"files": [{"path": "a", "sha256": "short"}]}, "files[0].sha256"),
        ({"files": [{"path": "a", "sha256": DIGEST}]}, "files[0].sha256"),
        ({"files": [{"path": "a", "sah256": DIGEST}]}, "files[0].sah256"),
        ({"files": [{"path": 1, "sha256": DIGEST}]}, "files[0].path"),
        ({"deletes": ["a", "a"]}, "files and deletes"),
        ({"deletes": ["/a"]}, "deletes[0]"),
        ({"mesage": "x"}, "mesage"),
    ],
)
def test_a_bad_commit_names_the_field_and_makes_no_repo(client: httpx.Client, wish: object, where: str) -> None:
    refused = client.post(f"{REPO}/commits", json=wish)
    assert (refused.status_code, refused.json()["where"]) == (422, where)
    assert client.get(REPO).status_code == 404


def test_a_file_cannot_be_the_folder_of_another(client: httpx.Client) -> None:
    client.put(f"{REPO}/files/a", content=b"file")
    assert client.put(f"{REPO}/files/a/b", content=b"inside").status_code == 422
    for data in (b"file", b"x"):
        client.put(f"{REPO}/blobs/{sha256(data).hexdigest()}", content=data)
    files = [{"path": path, "sha256": sha256(b"x").hexdigest()} for path in ("c", "c/d")]
    assert client.post("/v1/repos/team/new/commits", json={"files": files}).status_code == 422
    assert client.get("/v1/repos/team/new").status_code == 404


def test_naming_a_hash_gives_nobody_the_bytes(pot: Pot) -> None:
    """Another tenant's private blob is neither present, committable, nor downloadable by its hash."""
    secret = b"the weights of others"
    digest = sha256(secret).hexdigest()
    pot.token("admin")
    with pot.client(pot.token("write", namespaces=("theirs",))) as theirs:
        theirs.put("/v1/repos/theirs/private", json={"private": True}).raise_for_status()
        theirs.put("/v1/repos/theirs/private/files/w", content=secret).raise_for_status()
    with pot.client(pot.token("write", namespaces=("mine",))) as mine:
        offer = {"files": [{"path": "w", "sha256": digest, "size": len(secret)}]}
        assert len(mine.post("/v1/repos/mine/r/missing", json=offer).json()["missing"]) == 1
        wish = {"files": [{"path": "w", "sha256": digest}]}
        assert mine.post("/v1/repos/mine/r/commits", json=wish).status_code == 422
        assert mine.get(f"/v1/repos/mine/r/uploads/{digest}").json()["received"] == 0
        asked = {"Content-Range": f"bytes */{len(secret)}", "X-Content-SHA256": digest}
        assert mine.put("/v1/repos/mine/r/files/w", headers=asked).status_code == 202
        assert mine.get("/v1/repos/mine/r").status_code == 404
        assert mine.put(f"/v1/repos/mine/r/blobs/{digest}", content=secret).status_code == 201
        assert mine.post("/v1/repos/mine/r/commits", json=wish).status_code == 201


def test_parts_of_two_callers_do_not_mix(pot: Pot) -> None:
    pot.token("admin")
    with pot.client(pot.token("write")) as one, pot.client(pot.token("write")) as two:
        part(one, 0, 10_000)
        assert received(two) == 0
        assert part(two, 0, 5_000).status_code == 202
        assert received(one) == 10_000


def test_bytes_that_are_sent_again_are_neither_written_again_nor_less_checked(pot: Pot, client: httpx.Client) -> None:
    blob = f"{REPO}/blobs/{DIGEST}"
    assert client.put(blob, content=BODY).status_code == 201
    place = pot.inside.blobs.local_path(DIGEST)
    before = place.stat().st_ino
    assert client.put(blob, content=BODY).json() == {"sha256": DIGEST, "size": len(BODY)}
    assert place.stat().st_ino == before
    assert client.put(blob, content=BODY[1:]).status_code == 422
    place.unlink()
    assert client.put(blob, content=BODY).status_code == 201, "what a disk has lost is mended by sending it again"
    assert place.read_bytes() == BODY
