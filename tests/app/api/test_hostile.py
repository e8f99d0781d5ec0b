"""Paths, names and bodies that mean harm: all are told 4xx with the field, and leave nothing."""

import contextlib
import http.client
import json
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.names import check_path
from merge_core.documents import parse_json, parse_yaml
from merge_core.errors import InputError, MalformedError
from tests.app.api.conftest import Pot

PLAN = "/v1/plan"
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    "path",
    [
        "%2e%2e/%2e%2e/etc/passwd",
        "a/%2e%2e/b",
        "%2Fetc%2Fpasswd",
        "a%5Cb",
        "a%00b",
        "a//b",
        "a/",
        "./a",
        "a%7F",
        "%FF%FE",
        "a" * 256,
        "/".join(["abcdefgh"] * 150),
    ],
)
def test_an_unsafe_path_is_refused_and_nothing_is_written(pot: Pot, path: str) -> None:
    connection = http.client.HTTPConnection(pot.url.removeprefix("http://"), timeout=10)
    connection.request("PUT", f"/v1/repos/team/math/files/{path}", body=b"x")
    response = connection.getresponse()
    problem = json.loads(response.read())
    connection.close()
    assert response.status == 422
    assert problem["where"] in ("path path", "the request's address")
    assert [file for file in pot.data.rglob("*") if file.is_file() and "stockpot.db" not in file.name] == []


@given(st.text(max_size=40))
def test_a_path_that_is_let_through_stays_in_its_folder(text: str) -> None:
    try:
        path = check_path(text)
    except InputError:
        return
    folder = Path("/somewhere/below")
    assert (folder / path).resolve().is_relative_to(folder)
    assert "\\" not in path
    assert "\0" not in path


@pytest.mark.parametrize("name", ["..", ".hidden", "-x", "a..b", "x.git", "X.GIT", "a b", "a" * 97, "ü", "a%0a"])
def test_a_bad_name_is_refused(reader: httpx.Client, name: str) -> None:
    for namespace, repo in (("team", name), (name, "math")):
        url = f"/v1/repos/{namespace}/{repo}/files/a.txt".replace("/../", "/%2E%2E/")
        assert reader.put(url, content=b"x").status_code == 422
    assert reader.get("/v1/repos").json()["items"] == []


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        (b"", 400, "JSON"),
        (b"{", 400, "JSON"),
        (b"\xff\xfe", 400, "JSON"),
        (b'{"recipe": {}, "recipe": {}}', 400, "twice"),
        (b'{"recipe": {"scale": NaN}}', 400, "NaN"),
        (b'{"recipe": {"scale": Infinity}}', 400, "Infinity"),
        (b'{"recipe": {"scale": 1e999}}', 400, "too large"),
        (b'{"recipe": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "deeper"),
        (b'{"recipe": ' + b"[" * 100 + b"]" * 100 + b"}", 400, "deeper"),
        (b'{"recipe": {"seed": ' + b"9" * 5000 + b"}}", 400, "JSON"),
        (b'{"recipe": {"a": "\\ud800"}}', 400, "surrogate"),
        (b'{"recipe": {"a": "\\u0000"}}', 400, "NUL"),
        (b"[]", 422, "dictionary"),
        (b"null", 422, "dictionary"),
        (b'{"recipe": 3}', 422, "dictionary"),
        (b"{}", 422, "missing"),
        (b'{"recipee": {}}', 422, "'recipe'"),
        (b'{"recipe": {}}', 422, "method"),
        (b'{"recipe": {"method": "tyes", "ingredients": [{"source": "a/b"}]}}', 422, "ties"),
        (b'{"recipe": {"method": "linear", "ingredients": [{"source": "/etc/passwd"}]}}', 422, "not a name"),
        (b'{"recipe": {"method": "linear", "ingredients": [{"source": "./folder"}]}}', 422, "not a name"),
        (b'{"recipe": {"method": "linear", "ingredients": [{"source": "folder"}]}}', 422, "namespace/name"),
        (b'{"recipe": {"method": "linear", "ingredients": [{"source": "no/such"}]}}', 404, "no such repo"),
        (b'{"recipe": ' + b" " * (1 << 20) + b"{}}", 413, "too large"),
    ],
)
def test_a_bad_body_is_told_apart(reader: httpx.Client, body: bytes, status: int, word: str) -> None:
    refused = reader.post(PLAN, content=body, headers=JSON)
    assert refused.status_code == status, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert word in refused.text
    assert {"type", "title", "status", "detail"} <= set(refused.json())


NINES = (
    b"a: &a ["
    + b"1," * 99
    + b"]\nb: &b ["
    + b"*a," * 99
    + b"]\nc: &c ["
    + b"*b," * 99
    + b"]\nd: ["
    + b"*c," * 99
    + b"]"
)
"""A few hundred bytes that mean a hundred million values."""


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"a: &x [1, *x]\n", "recursive"),
        (b"a: &x {<<: *x}\n", "YAML"),
        (NINES, "more than 1000000 values"),
        (b"a: &x " + b"long" * 20_000 + b"\nb: [" + b"*x," * 300 + b"]", "letters"),
        (b"a: &x {" + b", ".join(b"k%d: 1" % n for n in range(2000)) + b"}\nb: {<<: [" + b"*x," * 600 + b"]}", "<<"),
        (b"recipe: 1\nrecipe: 2\n", "twice"),
        (b"recipe: !!python/object/apply:os.system [id]\n", "YAML"),
        (b"recipe: {scale: .nan}\n", "finite"),
        (b"recipe: {day: 2020-01-01}\n", "neither"),
        (b"1: 2\n", "not a text"),
        (b"[" * 5000, "deeper"),
        (b"a: b: c\n", "YAML"),
    ],
)
def test_bad_yaml_is_refused(reader: httpx.Client, body: bytes, word: str) -> None:
    refused = reader.post(PLAN, content=body, headers={"Content-Type": "application/yaml"})
    assert refused.status_code == 400, refused.text
    assert word in refused.text


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "multipart/form-data"])
def test_a_wrong_content_type_is_a_415(reader: httpx.Client, kind: str) -> None:
    refused = reader.post(PLAN, content=b"{}", headers={"Content-Type": kind})
    assert refused.status_code == 415
    assert refused.json()["where"] == "header Content-Type"


def test_a_body_without_a_length_stops_at_the_limit(reader: httpx.Client) -> None:
    refused = reader.post(PLAN, content=iter([b" " * 65536] * 40), headers=JSON)
    assert refused.status_code == 413


@given(st.binary(max_size=60))
def test_no_bytes_break_the_parsers(raw: bytes) -> None:
    for parse in (parse_json, parse_yaml):
        with contextlib.suppress(MalformedError):
            parse(raw)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=4),
    )
)
def test_what_json_writes_is_read_back(value: object) -> None:
    assert parse_json(json.dumps(value).encode()) == value


def test_a_wrong_path_and_a_wrong_method_are_problems(reader: httpx.Client) -> None:
    assert reader.get("/v1/nothing").json()["type"] == "/problems/not-found"
    refused = reader.patch("/v1/methods")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET")
    assert refused.json()["type"] == "/problems/method-not-allowed"


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "x"}, {"limit": "1001"}, {"kind": "soup"}, {"limit": "9" * 5000}]
)
def test_a_bad_query_names_the_parameter(reader: httpx.Client, query: dict[str, str]) -> None:
    refused = reader.get("/v1/repos", params=query)
    assert refused.status_code == 422
    assert refused.json()["where"] == f"query {next(iter(query))}"


@pytest.mark.parametrize("path", ["/v1/repos", "/v1/jobs", "/v1/deltas", "/v1/compositions"])
@pytest.mark.parametrize("cursor", ["x", "1-2", "999999999999999999-a", "-", "\x00", "a/b/c"])
def test_a_made_up_cursor_breaks_nothing(reader: httpx.Client, path: str, cursor: str) -> None:
    assert reader.get(path, params={"cursor": cursor}).status_code in (200, 422)
