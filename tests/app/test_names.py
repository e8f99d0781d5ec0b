import pytest

from app.names import check_branch, check_revision
from merge_core.errors import InputError

GOOD = (
    "main",
    "v1.0",
    "feature/x",
    "a/b/c",
    "20240101",
    "deadbeef",
    "v1.0+cu118",
    "user@dev",
    "_x",
    "a" * 200,
    "f" * 39,
)
BAD = (
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    "..",
    "a..b",
    "a/../b",
    ".a",
    "a/.b",
    "-a",
    "a/-b",
    "a.",
    "a./b",
    "a.lock",
    "a.lock/b",
    "a b",
    "a\n",
    "a\0",
    "a\x7f",
    "a~1",
    "a^",
    "a:b",
    "a?b",
    "a*",
    "a[b",
    "a\\b",
    "a@{1}",
    "@",
    "é",
    "HEAD",
    "head",
    "refs/pr/1",
    "refs/heads/a",
    "refs",
    "Refs/x",
    "0" * 40,
    "A" * 40,
    "a" * 201,
    "a%2Fb",
    "../../etc/passwd",
)


@pytest.mark.parametrize("name", GOOD)
def test_a_name_that_git_takes_can_be_a_branch_and_then_a_revision(name: str) -> None:
    assert check_branch(name, "branch") == name
    for revision in (name, f"refs/heads/{name}", f"refs/tags/{name}"):
        assert check_revision(revision) == revision


@pytest.mark.parametrize("name", BAD)
def test_a_hostile_name_is_no_branch(name: str) -> None:
    with pytest.raises(InputError, match="branch or tag"):
        check_branch(name, "branch")


@pytest.mark.parametrize("revision", ["0" * 40, "A" * 40, "refs/pr/1", "refs/pr/123456789", "abcdef1"])
def test_commits_and_pull_requests_are_revisions(revision: str) -> None:
    assert check_revision(revision) == revision


@pytest.mark.parametrize(
    "revision",
    ["", "a..b", "refs/pr/0", "refs/pr/01", "refs/pr/x", "refs/x", "refs/heads/", "refs/heads/refs/x", "a\0"],
)
def test_what_no_ref_can_be_called_is_no_revision(revision: str) -> None:
    with pytest.raises(InputError, match="not a revision"):
        check_revision(revision)
