"""Real clients publish: files small and large, folders, deletions and copies; and what is unchanged stays."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, RemoteEntryNotFoundError, RevisionNotFoundError

from tests.app.api.conftest import Pot, checkpoint
from tests.app.hub.conftest import BY_LFS, Hub, held, refused

REPO = "team/mine"
CARD = b"---\nlicense: mit\n---\nhello"
WEIGHTS = checkpoint(0)
FILES = {"README.md": CARD, "deep/er/config.json": b"{}", "empty.bin": b"", "w.safetensors": WEIGHTS}

pytestmark = BY_LFS


@pytest.fixture
def api(hub: Hub) -> HfApi:
    """A client with a repo of its own."""
    api = hub()
    api.create_repo(REPO)
    return api


def add(path: str, content: bytes = b"content") -> CommitOperationAdd:
    return CommitOperationAdd(path, content)


def folder(place: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(content)
    return place


def test_a_folder_arrives_as_it_is(pot: Pot, api: HfApi, tmp_path: Path) -> None:
    here = folder(tmp_path / "folder", FILES)
    told = api.upload_folder(repo_id=REPO, folder_path=here, commit_message="All", commit_description="Of it")
    assert held(pot, REPO) == FILES
    assert told.oid == pot.inside.store.require_repo(REPO).head
    assert str(told.repo_url) == f"{pot.url}/{REPO}"
    assert pot.inside.store.head(pot.inside.store.require_repo(REPO)).message == "All\n\nOf it"


def test_an_unchanged_push_makes_no_commit(pot: Pot, api: HfApi, tmp_path: Path) -> None:
    here = folder(tmp_path / "folder", FILES)
    first = api.upload_folder(repo_id=REPO, folder_path=here)
    again = api.upload_folder(repo_id=REPO, folder_path=here)
    assert first.oid == again.oid
    assert [entry.commit_id for entry in api.list_repo_commits(REPO)] == [first.oid]


def test_what_is_deleted_and_copied_is_so_in_one_commit(pot: Pot, api: HfApi) -> None:
    start = {"a.txt": b"a", "w.safetensors": WEIGHTS, "old/1.txt": b"1", "old/in/2.txt": b"2", "olden.txt": b"3"}
    api.create_commit(REPO, [add(path, content) for path, content in start.items()], commit_message="Start")
    changes = [
        CommitOperationCopy("w.safetensors", "copy/w.safetensors"),
        CommitOperationCopy("a.txt", "b.txt"),
        CommitOperationDelete("a.txt"),
        CommitOperationDelete("old/"),
        add("old/new.txt", b"new"),
    ]
    api.create_commit(REPO, changes, commit_message="Change")
    kept = {"olden.txt": b"3", "w.safetensors": WEIGHTS}
    assert held(pot, REPO) == {**kept, "b.txt": b"a", "copy/w.safetensors": WEIGHTS, "old/new.txt": b"new"}


def test_patterns_delete_what_is_not_in_the_folder_any_more(pot: Pot, api: HfApi, tmp_path: Path) -> None:
    api.upload_folder(repo_id=REPO, folder_path=folder(tmp_path / "one", {"1.txt": b"1", "2.txt": b"2"}))
    here = folder(tmp_path / "two", {"2.txt": b"two"})
    api.upload_folder(repo_id=REPO, folder_path=here, delete_patterns="*")
    assert held(pot, REPO) == {"2.txt": b"two"}


def test_deleting_what_is_not_there_says_so(api: HfApi) -> None:
    api.upload_file(path_or_fileobj=b"1", path_in_repo="folder/one.txt", repo_id=REPO)
    for path in ("two.txt", "folder"):
        with pytest.raises(RemoteEntryNotFoundError, match="differentiate file and folder"):
            api.create_commit(REPO, [CommitOperationDelete(path, is_folder=False)], commit_message="Delete")
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_folder("other", repo_id=REPO)


def test_what_git_ignores_is_left_out(pot: Pot, api: HfApi, tmp_path: Path) -> None:
    ignore = b"*.log\n/build/\n!keep.log\n"
    sent = {".gitignore": ignore, "a.log": b"1", "keep.log": b"2", "build/x.bin": b"3", "deep/build/y.txt": b"4"}
    api.upload_folder(repo_id=REPO, folder_path=folder(tmp_path / "folder", sent))
    kept = {".gitignore": ignore, "keep.log": b"2", "deep/build/y.txt": b"4"}
    assert held(pot, REPO) == kept
    api.create_commit(REPO, [add("later.log"), add("later.txt", b"5")], commit_message="By the rules that are there")
    assert held(pot, REPO) == {**kept, "later.txt": b"5"}


def test_a_stale_parent_is_refused(pot: Pot, api: HfApi) -> None:
    first = api.create_commit(REPO, [add("1.txt")], commit_message="1", parent_commit=api.model_info(REPO).sha)
    api.create_commit(REPO, [add("2.txt")], commit_message="2", parent_commit=first.oid[:8])
    for parent in (first.oid, "0" * 40):
        with refused(412):
            api.create_commit(REPO, [add("3.txt")], commit_message="3", parent_commit=parent)
    assert set(held(pot, REPO)) == {"1.txt", "2.txt"}


def test_of_commits_on_one_parent_one_lands_and_without_one_all_do(pot: Pot, api: HfApi) -> None:
    start = api.create_commit(REPO, [add("start.txt")], commit_message="Start").oid

    def commit(index: int, parent: str | None) -> int:
        try:
            api.create_commit(REPO, [add(f"{index}.txt")], commit_message="One of many", parent_commit=parent)
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(6) as threads:
        raced = list(threads.map(lambda index: commit(index, start), range(6)))
        freely = list(threads.map(lambda index: commit(index, None), range(6, 12)))
    assert sorted(raced) == [200, *[412] * 5]
    assert freely == [200] * 6
    assert len(held(pot, REPO)) == 1 + 1 + 6


def test_branches_and_pull_requests_take_commits_of_their_own(pot: Pot, api: HfApi) -> None:
    api.upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id=REPO)
    api.create_branch(REPO, branch="feature/one")
    api.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="w.safetensors", repo_id=REPO, revision="feature/one")
    told = api.upload_file(path_or_fileobj=b"3", path_in_repo="3.txt", repo_id=REPO, create_pr=True)
    assert (told.pr_num, told.pr_revision) == (1, "refs/pr/1")
    api.upload_file(path_or_fileobj=b"4", path_in_repo="4.txt", repo_id=REPO, revision="refs/pr/1")
    assert set(held(pot, REPO)) == {"1.txt"}
    assert set(held(pot, REPO, "feature/one")) == {"1.txt", "w.safetensors"}
    assert set(held(pot, REPO, "refs/pr/1")) == {"1.txt", "3.txt", "4.txt"}
    for more in ({}, {"create_pr": True}):
        with pytest.raises(RevisionNotFoundError):
            api.create_commit(REPO, [add("5.txt")], commit_message="5", revision="nowhere", **more)


def test_a_pull_request_begins_at_the_parent_that_it_names(pot: Pot, api: HfApi) -> None:
    first = api.upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id=REPO)
    api.upload_file(path_or_fileobj=b"2", path_in_repo="2.txt", repo_id=REPO)
    more = [add("3.txt"), CommitOperationDelete("1.txt")]
    api.create_commit(REPO, more, commit_message="From there", create_pr=True, parent_commit=first.oid)
    assert set(held(pot, REPO, "refs/pr/1")) == {"3.txt"}


def test_a_commit_on_a_branch_that_is_gone_says_so(pot: Pot, api: HfApi) -> None:
    api.upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id=REPO)
    with pot.client() as caller:
        body = b'{"key":"header","value":{"summary":"s"}}'
        for more in ("", "?create_pr=1"):
            answer = caller.post(f"/api/models/{REPO}/commit/gone{more}", content=body)
            assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, "RevisionNotFound")


def test_a_composition_takes_no_files(pot: Pot, api: HfApi) -> None:
    pot.inside.store.create_repo("soups", "mix", kind="composition")
    with refused(409, "computed from a recipe"):
        api.upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id="soups/mix")


def test_what_nobody_may_write_to_is_refused(pot: Pot, hub: Hub, api: HfApi) -> None:
    reader, other = pot.token("read"), pot.token("write", namespaces=("others",))
    for secret in (reader, other):
        with refused(403):
            hub(secret).upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id=REPO)
    with refused(401):
        hub().upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id=REPO)
    with refused(404):
        hub(other).upload_file(path_or_fileobj=b"1", path_in_repo="1.txt", repo_id="team/none")
