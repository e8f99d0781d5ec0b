"""Publishing and downloading single files."""

import contextlib
from collections.abc import Iterator
from hashlib import sha256

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from app.api.serving import wanted_ranges
from app.problems import RangeError
from tests.app.api.conftest import Pot, wait_until

HELLO = b"hello, pot"
FILE = "/v1/repos/team/math/files/folder/a.txt"


def partials(pot: Pot) -> list[str]:
    return [path.name for path in pot.data.rglob("*.partial")]


def test_a_file_is_published_with_one_put_and_comes_back_the_same(client: httpx.Client) -> None:
    put = client.put(FILE, content=HELLO)
    assert put.status_code == 201
    assert put.json()["sha256"] == sha256(HELLO).hexdigest()
    got = client.get(FILE)
    assert got.content == HELLO
    assert got.headers["etag"] == f'"{sha256(HELLO).hexdigest()}"'
    assert got.headers["x-repo-commit"] == put.json()["commit"]
    assert got.headers["x-content-type-options"] == "nosniff"


def test_an_unchanged_file_makes_no_new_commit(client: httpx.Client) -> None:
    first, second = client.put(FILE, content=HELLO), client.put(FILE, content=HELLO)
    assert second.status_code == 200
    assert first.json()["commit"] == second.json()["commit"]
    assert len(client.get("/v1/repos/team/math/commits").json()["items"]) == 1


def test_a_large_body_without_a_length_is_streamed_in(client: httpx.Client) -> None:
    pieces = [bytes([number]) * 300_001 for number in range(20)]
    put = client.put(FILE, content=iter(pieces))
    assert put.json()["sha256"] == sha256(b"".join(pieces)).hexdigest()
    assert client.get(FILE).content == b"".join(pieces)


def test_an_empty_file_is_a_file(client: httpx.Client) -> None:
    assert client.put(FILE, content=b"").status_code == 201
    assert client.get(FILE).content == b""
    assert client.get(FILE, headers={"Range": "bytes=0-"}).status_code == 416


@pytest.mark.parametrize("place", ["header", "query"])
def test_another_hash_than_announced_is_refused_and_leaves_nothing(pot: Pot, client: httpx.Client, place: str) -> None:
    wrong = sha256(b"other").hexdigest()
    headers, params = ({"X-Content-SHA256": wrong}, {}) if place == "header" else ({}, {"sha256": wrong})
    refused = client.put(FILE, content=HELLO, headers=headers, params=params)
    assert refused.status_code == 422
    assert refused.json()["found"] == sha256(HELLO).hexdigest()
    assert refused.json()["expected"] == wrong
    assert client.get("/v1/repos/team/math").status_code == 404
    assert partials(pot) == []
    assert not pot.inside.blobs.exists(sha256(HELLO).hexdigest())


@pytest.mark.parametrize("value", ["xyz", "0" * 63, "g" * 64])
def test_what_is_not_a_hash_is_refused(client: httpx.Client, value: str) -> None:
    refused = client.put(FILE, content=HELLO, headers={"X-Content-SHA256": value})
    assert refused.status_code == 422
    assert refused.json()["where"] == "header X-Content-SHA256"


def test_a_hash_in_capitals_is_the_same_hash(client: httpx.Client) -> None:
    assert client.put(FILE, content=HELLO, params={"sha256": sha256(HELLO).hexdigest().upper()}).status_code == 201


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_the_limit_is_refused_and_leaves_nothing(pot: Pot, client: httpx.Client, announced: bool) -> None:
    body = b"x" * (pot.inside.settings.max_file_bytes + 1)
    refused = client.put(FILE, content=body if announced else iter([body]))
    assert refused.status_code == 413
    assert partials(pot) == []
    assert client.get("/v1/repos").json()["items"] == []


def test_a_connection_that_breaks_off_leaves_nothing(pot: Pot, client: httpx.Client) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 3_000_000
        raise ConnectionError

    with pytest.raises(ConnectionError):
        client.put(FILE, content=broken())
    wait_until(lambda: partials(pot) == [])
    with pot.client() as other:
        assert other.get("/v1/repos").json()["items"] == []


def test_a_compressed_body_is_refused(client: httpx.Client) -> None:
    assert client.put(FILE, content=HELLO, headers={"Content-Encoding": "gzip"}).status_code == 415


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-3", b"hell"),
        ("bytes=4-", b"o, pot"),
        ("bytes=-3", b"pot"),
        ("bytes=-300", HELLO),
        ("bytes=4-400", b"o, pot"),
        ("bytes=9-9", b"t"),
        ("bytes=1-1,400-500", b"e"),
        ("BYTES=0-0", b"h"),
    ],
)
def test_a_range_gives_those_bytes(client: httpx.Client, header: str, expected: bytes) -> None:
    client.put(FILE, content=HELLO)
    got = client.get(FILE, headers={"Range": header})
    assert got.status_code == 206
    assert got.content == expected
    first = HELLO.index(expected)
    assert got.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{len(HELLO)}"


@pytest.mark.parametrize(
    "header", ["lines=1-2", "bytes=3-1", "bytes=a-b", "bytes=", "bytes=--1", "bytes 0-1", "bytes=+1-"]
)
def test_a_range_that_is_none_is_ignored(client: httpx.Client, header: str) -> None:
    client.put(FILE, content=HELLO)
    got = client.get(FILE, headers={"Range": header})
    assert (got.status_code, got.content) == (200, HELLO)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=999999999999999999-"])
def test_bytes_that_do_not_exist_are_a_416(client: httpx.Client, header: str) -> None:
    client.put(FILE, content=HELLO)
    got = client.get(FILE, headers={"Range": header})
    assert got.status_code == 416
    assert got.headers["content-range"] == f"bytes */{len(HELLO)}"
    assert got.headers["content-type"] == "application/problem+json"


def test_several_ranges_come_as_parts(client: httpx.Client) -> None:
    client.put(FILE, content=HELLO)
    got = client.get(FILE, headers={"Range": "bytes=0-1,7-9"})
    assert got.status_code == 206
    assert got.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert b"Content-Range: bytes 0-1/10\r\n\r\nhe\r\n" in got.content
    assert b"Content-Range: bytes 7-9/10\r\n\r\npot\r\n" in got.content


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', '"x", "{}"', "*"])
def test_a_known_tag_answers_304_without_a_body(client: httpx.Client, tag: str) -> None:
    client.put(FILE, content=HELLO)
    got = client.get(FILE, headers={"If-None-Match": tag.format(sha256(HELLO).hexdigest())})
    assert (got.status_code, got.content) == (304, b"")
    assert client.get(FILE, headers={"If-None-Match": '"else"'}).status_code == 200


def test_a_range_of_another_version_gives_the_whole_file(client: httpx.Client) -> None:
    client.put(FILE, content=HELLO)
    headers = {"Range": "bytes=0-1", "If-Range": '"other"'}
    assert client.get(FILE, headers=headers).content == HELLO
    headers["If-Range"] = f'"{sha256(HELLO).hexdigest()}"'
    assert client.get(FILE, headers=headers).content == HELLO[:2]


def test_head_says_what_get_would_and_sends_nothing(client: httpx.Client) -> None:
    client.put(FILE, content=HELLO)
    head = client.head(FILE, headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(HELLO))
    assert head.headers["etag"] == f'"{sha256(HELLO).hexdigest()}"'
    assert client.head("/v1/repos/team/math/files/none").status_code == 404


def test_a_revision_keeps_its_files(client: httpx.Client) -> None:
    first = client.put(FILE, content=HELLO).json()["commit"]
    client.put(FILE, content=b"other")
    assert client.get(FILE, params={"revision": first}).content == HELLO
    assert client.get(FILE, params={"revision": first[:7]}).content == HELLO
    assert client.get(FILE).content == b"other"
    assert client.get(FILE, params={"revision": "nope"}).status_code == 404


def test_a_page_of_html_is_not_served_as_one(client: httpx.Client) -> None:
    path = "/v1/repos/team/math/files/evil.html"
    client.put(path, content=b"<script>alert(1)</script>")
    got = client.get(path)
    assert got.headers["content-type"] == "application/octet-stream"
    assert got.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in got.headers["content-security-policy"]


def test_a_missing_file_names_the_nearest(client: httpx.Client) -> None:
    client.put(FILE, content=HELLO)
    problem = client.get("/v1/repos/team/math/files/folder/b.txt").json()
    assert problem["type"] == "/problems/not-found-error"
    assert "folder/a.txt" in problem["expected"]


def test_names_that_are_not_ascii_survive(client: httpx.Client) -> None:
    path = "/v1/repos/team/math/files/überblick 模型.txt"
    assert client.put(path, content=HELLO).status_code == 201
    got = client.get(path)
    assert got.content == HELLO
    assert "filename*=UTF-8''%C3%BC" in got.headers["content-disposition"]


def _request(header: str) -> Request:
    return Request({"type": "http", "method": "GET", "headers": [(b"range", header.encode())]})


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=4), st.integers(0, 40))
def test_ranges_are_cut_to_what_exists(spans: list[tuple[int, int]], size: int) -> None:
    """Against the obvious second version: which of the bytes asked for exist."""
    header = "bytes=" + ",".join(f"{first}-{last}" for first, last in spans)
    asked = [set(range(first, last + 1)) & set(range(size)) for first, last in spans]
    try:
        kept = wanted_ranges(_request(header), '"tag"', size)
    except RangeError:
        assert all(first >= size for first, last in spans)
        return
    if kept is None:
        assert any(last < first for first, last in spans)
        return
    pairs = [tuple(map(int, part.split("-"))) for part in kept.removeprefix("bytes=").split(",")]
    assert [set(range(first, last + 1)) for first, last in pairs] == [part for part in asked if part]


@given(st.text(st.characters(max_codepoint=126, min_codepoint=32), max_size=30))
def test_no_range_header_breaks_the_parser(text: str) -> None:
    with contextlib.suppress(RangeError):
        wanted_ranges(_request("bytes=" + text), '"tag"', 10)
