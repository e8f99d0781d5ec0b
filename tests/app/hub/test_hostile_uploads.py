"""Commits and questions that no honest client sends: each is refused, names what is wrong, and changes nothing."""

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import httpx
import pytest

from app.hub import commit
from app.hub.ignored import ignored_of
from merge_core.errors import InputError
from tests.app.api.conftest import Pot, running, settings_for
from tests.app.hub.conftest import publish

REPO = "team/mine"
COMMIT = f"/api/models/{REPO}/commit/main"
PREUPLOAD = f"/api/models/{REPO}/preupload/main"
HEADER = {"key": "header", "value": {"summary": "s", "description": ""}}


def file(path: str, content: str = b64encode(b"content").decode(), **more: object) -> dict[str, Any]:
    return {"key": "file", "value": {"path": path, "content": content, "encoding": "base64", **more}}


def large(**value: object) -> dict[str, Any]:
    return {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", **value}}


def lines(*items: object) -> bytes:
    return b"\n".join(json.dumps(item).encode() for item in items)


@pytest.fixture
def mine(pot: Pot, client: httpx.Client) -> httpx.Client:
    """A caller whose repo has one file."""
    publish(pot, REPO, {"a.txt": b"a"})
    return client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, queue_url: str) -> Iterator[Pot]:
    """The same for requests that change nothing."""
    with running(settings_for(tmp_path_factory.mktemp("shared"), queue_url)) as pot:
        publish(pot, REPO, {"a.txt": b"a"})
        yield pot


SENT = sha256(b"a").hexdigest()
WRONG: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "begins with its header"),
    "empty lines": (b"\n\n\r\n", "begins with its header"),
    "no header": (lines(file("b.txt")), "header is the first line"),
    "two headers": (lines(HEADER, HEADER), "header is the first line"),
    "a header without a summary": (lines({"key": "header", "value": {"summary": ""}}), "summary"),
    "no JSON": (b"{", "not valid JSON"),
    "a list": (b"[]", "line 1"),
    "no UTF-8": (b"\xff\xfe", "not valid JSON"),
    "no operation of ours": (lines(HEADER, {"key": "rename", "value": {}}), "no such operation"),
    "half a group of base64": (lines(HEADER, file("b.txt", "abc")), "not valid base64"),
    "letters outside of base64": (lines(HEADER, file("b.txt", "äöü=")), "not valid base64"),
    "an encoding of no one": (lines(HEADER, file("b.txt", encoding="rot13")), "encoding"),
    "a way out of the repo": (lines(HEADER, file("../b.txt")), "not a file's path"),
    "a way out from within": (lines(HEADER, file("x/../../b.txt")), "not a file's path"),
    "a path from the root": (lines(HEADER, file("/etc/passwd")), "not a file's path"),
    "git's own folder": (lines(HEADER, file(".git/hooks/post-checkout")), "not a file's path"),
    "git's own folder further in": (lines(HEADER, file("sub/.GIT/config")), "not a file's path"),
    "a NUL in a path": (lines(HEADER, file("b\0.txt")), "line 2: value.path"),
    "half a character in a path": (lines(HEADER, file("b\ud800.txt")), "line 2: value.path"),
    "a file that is a folder": (lines(HEADER, file("b"), file("b/c")), "a file and a folder"),
    "a file that is a folder already": (lines(HEADER, file("a.txt/c")), "a file and a folder"),
    "a folder of no name": (lines(HEADER, {"key": "deletedFolder", "value": {"path": "/"}}), "not a file's path"),
    "a hash that is none": (lines(HEADER, large(oid="xyz")), "not a sha256"),
    "a hash of nobody": (lines(HEADER, large(oid="0" * 64)), "not here, or not yours"),
    "another size": (lines(HEADER, large(oid=SENT, size=2)), "another size"),
    "another kind of hash": (lines(HEADER, large(oid=SENT, algo="md5")), "algo"),
    "a copy of nothing": (
        lines(HEADER, {"key": "copyFile", "value": {"path": "b", "srcPath": "none"}}),
        "no such file",
    ),
}


@pytest.mark.parametrize(("body", "words"), WRONG.values(), ids=WRONG)
def test_a_commit_that_is_wrong_says_where_and_changes_nothing(shared: Pot, body: bytes, words: str) -> None:
    before = shared.inside.store.require_repo(REPO).head
    with shared.client() as caller:
        answer = caller.post(COMMIT, content=body, headers={"Content-Type": "application/x-ndjson"})
    assert answer.status_code in (400, 404)
    assert words in answer.json()["error"]
    assert shared.inside.store.require_repo(REPO).head == before


def test_lines_and_commits_have_bounds(pot: Pot, mine: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "LONGEST_LINE", 100_000)
    monkeypatch.setattr(commit, "MOST_LINES", 3)
    monkeypatch.setattr(commit, "MOST_BYTES", 300_000)
    endless = lines(HEADER, file("b.txt", "A" * 200_000))
    many = lines(HEADER, file("1"), file("2"), file("3"))
    much = lines(HEADER, file("1", "A" * 90_000), file("2", "A" * 90_000)) + b" " * 200_000
    for body in (endless, many, much):
        for content in (body, iter([body[:1000], body[1000:]])):
            assert mine.post(COMMIT, content=content).status_code == 413
    assert mine.post(COMMIT, content=lines(HEADER), headers={"Content-Encoding": "gzip"}).status_code == 415


def test_lines_may_come_in_pieces_of_any_size(pot: Pot, mine: httpx.Client) -> None:
    body = lines(HEADER, file("b.txt"), file("c.txt", "", encoding="utf-8")) + b"\r\n\n"
    answer = mine.post(COMMIT, content=(bytes([letter]) for letter in body))
    assert answer.status_code == 200
    assert mine.get(f"/{REPO}/resolve/{answer.json()['commitOid']}/b.txt").content == b"content"


def test_a_copy_comes_from_where_the_caller_may_read(pot: Pot) -> None:
    mine, theirs = (pot.token("write", namespaces=(name,)) for name in ("team", "others"))
    publish(pot, "team/open", {"a.txt": b"a"}, mine)
    publish(pot, "team/secret", {"a.txt": b"a"}, mine, private=True)
    publish(pot, "others/one", {"b.txt": b"b"}, theirs)

    def copied(source: str, revision: str) -> httpx.Response:
        value = {"path": "copy.txt", "srcPath": "a.txt", "srcRepo": source, "srcRevision": revision}
        with pot.client(theirs) as caller:
            body = lines(HEADER, {"key": "copyFile", "value": value})
            return caller.post("/api/models/others/one/commit/main", content=body)

    hidden, missing = copied("team/secret", "main"), copied("team/none", "main")
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert hidden.json()["error"].replace("secret", "none") == missing.json()["error"]
    assert copied("team/open", "nowhere").headers["X-Error-Code"] == "RevisionNotFound"
    assert copied("team/open", "main").status_code == 200


def test_what_is_asked_before_an_upload_is_checked(mine: httpx.Client) -> None:
    for files in ([{"path": "../x", "size": 1}], [{"path": ".git/x", "size": 1}], [{"path": "x"}], "x"):
        assert mine.post(PREUPLOAD, json={"files": files}).status_code == 400
    assert mine.post(PREUPLOAD, json={"files": [{"path": "x", "size": -1}]}).status_code == 400
    told = mine.post(PREUPLOAD, json={"files": [{"path": "a.txt", "size": 1, "sample": "?"}]}).json()["files"][0]
    assert told["oid"] == "2e65efe2a145dda7ee51d1741299f848e5bf752e"  # printf a | git hash-object --stdin


@pytest.mark.parametrize(
    "pattern", ["*a" * 4, "**/a/" * 3, "\n".join(["*a*"] * 60), "a\n" * 3000, "\\"], ids=lambda text: text[:12]
)
def test_patterns_that_would_take_forever_are_refused(pattern: str) -> None:
    with pytest.raises(InputError, match=r"\.gitignore"):
        ignored_of(pattern, ["a" * 200])
