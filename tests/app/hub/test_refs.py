"""Real clients make, list and remove branches and tags."""

from pathlib import Path

import pytest
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

from tests.app.api.conftest import Pot
from tests.app.hub.conftest import Hub, publish

FILES = {"config.json": b"{}"}


def test_branches_and_tags_come_and_go(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    publish(pot, "team/one", {"more.txt": b"x"})
    api = hub()
    second, first = [commit.commit_id for commit in api.list_repo_commits("team/one")]
    api.create_branch("team/one", branch="feature/new", revision=first)
    api.create_tag("team/one", tag="v1.0/rc", tag_message="the first", revision="feature/new")
    refs = api.list_repo_refs("team/one")
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.branches] == [
        ("main", "refs/heads/main", second),
        ("feature/new", "refs/heads/feature/new", first),
    ]
    assert [(ref.name, ref.ref, ref.target_commit) for ref in refs.tags] == [("v1.0/rc", "refs/tags/v1.0/rc", first)]
    for revision in ("feature/new", "v1.0/rc", "refs/heads/feature/new", first[:8]):
        assert api.list_repo_files("team/one", revision=revision) == ["config.json"]
        assert api.model_info("team/one", revision=revision).sha == first
        assert api.hf_hub_download("team/one", "config.json", revision=revision).endswith("config.json")
    api.delete_tag("team/one", tag="v1.0/rc")
    api.delete_branch("team/one", branch="feature/new")
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_files("team/one", revision="feature/new")
    assert len(api.list_repo_refs("team/one").branches) == 1


def test_pages_of_a_revision_with_slashes_follow_each_other(pot: Pot, hub: Hub) -> None:
    names = ["a b.txt", "a%2Fb.txt", "a&b=c.txt", "ä.txt", "z.txt"]
    publish(pot, "team/one", {name.replace("%", "%25"): name.encode() for name in names})
    hub().create_branch("team/one", branch="feature/new")
    for address in ("tree/feature%2Fnew?recursive=true&", "commits/feature%2Fnew?"):
        with pot.client() as caller:
            answer = caller.get(f"/api/models/team/one/{address}limit=2")
            found = answer.json()
            while "next" in answer.links:
                answer = caller.get(answer.links["next"]["url"]).raise_for_status()
                found += answer.json()
        assert len(found) == len(names)
    assert sorted(hub().list_repo_files("team/one", revision="feature/new")) == sorted(names)
    for name in names:
        assert Path(hub().hf_hub_download("team/one", name, revision="feature/new")).read_text() == name


def test_what_is_there_is_not_made_twice(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    api = hub()
    for _ in range(2):
        api.create_branch("team/one", branch="new", exist_ok=True)
        api.create_tag("team/one", tag="v1", exist_ok=True)
    for make in (
        lambda: api.create_branch("team/one", branch="new"),
        lambda: api.create_branch("team/one", branch="main"),
        lambda: api.create_tag("team/one", tag="v1"),
        lambda: api.delete_branch("team/one", branch="main"),
    ):
        with pytest.raises(HfHubHTTPError) as error:
            make()
        assert error.value.response.status_code == 409


def test_a_name_must_be_one_and_its_commit_must_be_there(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    api = hub()
    for name in ("refs/pr/5", "a b", "-x", "a..b", "HEAD", "0" * 40):
        with pytest.raises(BadRequestError):
            api.create_branch("team/one", branch=name)
        with pytest.raises(BadRequestError):
            api.create_tag("team/one", tag=name)
    for act in (
        lambda: api.create_branch("team/one", branch="new", revision="none"),
        lambda: api.create_tag("team/one", tag="new", revision="none"),
        lambda: api.delete_tag("team/one", tag="none"),
        lambda: api.delete_branch("team/one", branch="none"),
    ):
        with pytest.raises(RevisionNotFoundError):
            act()
    with pytest.raises(RepositoryNotFoundError):
        api.create_branch("team/none", branch="new")


def test_a_branch_may_begin_without_files(pot: Pot, hub: Hub) -> None:
    with pot.client() as caller:
        caller.put("/v1/repos/team/empty", json={}).raise_for_status()
        url = "/api/models/team/empty/branch"
        assert caller.post(f"{url}/first").status_code == 200
        publish(pot, "team/empty", FILES)
        assert caller.post(f"{url}/second", json={"emptyBranch": True, "new": "field"}).status_code == 200
        assert caller.post(f"{url}/second", json={"emptyBranch": True}).status_code == 409
    for branch in ("first", "second"):
        assert hub().list_repo_files("team/empty", revision=branch) == []


def test_a_history_becomes_one_commit(pot: Pot, hub: Hub) -> None:
    for number in range(3):
        publish(pot, "team/one", {f"{number}.txt": b"x"})
    api = hub()
    api.super_squash_history("team/one", commit_message="All of it")
    assert [commit.title for commit in api.list_repo_commits("team/one")] == ["All of it"]
    assert len(api.list_repo_files("team/one")) == 3


def test_only_those_who_may_write_name_commits(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    reader, stranger = pot.token("read", namespaces=("team",)), pot.token("write", namespaces=("other",))
    for secret in (reader, stranger):
        with pytest.raises(HfHubHTTPError) as error:
            hub(secret).create_tag("team/one", tag="v1")
        assert error.value.response.status_code == 403
    with pytest.raises(HfHubHTTPError) as error:
        hub().create_tag("team/one", tag="v1")
    assert error.value.response.status_code == 401


def test_pull_requests_are_listed(pot: Pot, hub: Hub) -> None:
    publish(pot, "team/one", FILES)
    store, api = pot.inside.store, hub()
    assert list(api.get_repo_discussions("team/one")) == []
    publish(pot, "team/two", {"new.txt": b"new"})
    (entry,) = store.tree(store.head(store.require_repo("team/two")))
    store.open_pull_request(store.require_repo("team/one"), {"new.txt": entry}, "Add a file\n\nWhy", "someone")
    (pull,) = api.get_repo_discussions("team/one")
    assert (pull.num, pull.title, pull.author, pull.is_pull_request) == (1, "Add a file", "someone", True)
    assert list(api.get_repo_discussions("team/one", discussion_type="discussion")) == []
    details = api.get_discussion_details("team/one", 1)
    assert details.target_branch == "refs/heads/main"
    refs = api.list_repo_refs("team/one", include_pull_requests=True)
    assert [(ref.name, ref.ref) for ref in refs.pull_requests or ()] == [("1", "refs/pr/1")]
    assert "new.txt" in api.list_repo_files("team/one", revision="refs/pr/1")
    with pytest.raises(HfHubHTTPError):
        api.get_discussion_details("team/one", 2)
