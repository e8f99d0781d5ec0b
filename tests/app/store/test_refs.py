from concurrent.futures import ThreadPoolExecutor

import pytest

from app.store.commits import write_commit
from app.store.records import Commit, Repo
from app.store.store import Store
from merge_core.errors import ConflictError, NotFoundError, StaleParentError
from tests.app.store.conftest import keep


@pytest.fixture
def repo(store: Store) -> Repo:
    made = store.create_repo("team", "math")
    commit(store, made, "first")
    return store.require_repo("team/math")


def commit(store: Store, repo: Repo, content: str, branch: str = "main", parent: str | None = None) -> Commit:
    return store.commit(repo, {"a": keep(store, content.encode(), "a")}, content, "me", parent, branch)


def content_at(store: Store, repo: Repo, revision: str) -> str:
    return store.resolve_revision(repo, revision).message


def test_a_branch_goes_its_own_way_and_main_stays(store: Store, repo: Repo) -> None:
    begun = store.create_branch(repo, "feature/x")
    assert (begun.name, begun.ref, begun.commit) == ("feature/x", "refs/heads/feature/x", repo.head)
    on_branch = commit(store, repo, "branch", "feature/x", repo.head)
    on_main = commit(store, repo, "main", parent=repo.head)
    assert (on_branch.parent, on_main.parent) == (repo.head, repo.head)
    assert store.require_repo("team/math").head == on_main.id
    assert [made.message for made in store.commits(repo, "feature/x")] == ["branch", "first"]
    assert [made.message for made in store.commits(repo)] == ["main", "first"]
    assert (store.count_commits(repo), store.count_commits(repo, on_branch.id)) == (2, 2)
    assert store.tip(repo, "feature/x") == on_branch.id
    with pytest.raises(StaleParentError, match=on_branch.id):
        commit(store, repo, "stale", "feature/x", repo.head)


def test_an_unchanged_tree_makes_no_commit_on_a_branch_and_moves_nothing(store: Store, repo: Repo) -> None:
    store.create_branch(repo, "dev")
    assert commit(store, repo, "first", "dev").id == repo.head
    assert store.require_repo("team/math") == repo


def test_equal_commits_on_two_branches_are_two(store: Store, repo: Repo) -> None:
    names = [f"b{number}" for number in range(4)]
    for name in names:
        store.create_branch(repo, name)
    assert len({commit(store, repo, "same", name).id for name in names}) == 4


def test_branches_and_tags_are_listed_by_name_and_main_first(store: Store, repo: Repo) -> None:
    for name in ("b/2", "a", "z", "B"):
        store.create_branch(repo, name)
        store.create_tag(repo, f"v-{name}", message=f"about {name}")
    assert [ref.name for ref in store.branches(repo)] == ["main", "B", "a", "b/2", "z"]
    assert [(ref.name, ref.message) for ref in store.tags(repo)][1:3] == [("v-a", "about a"), ("v-b/2", "about b/2")]
    assert {ref.commit for ref in [*store.branches(repo), *store.tags(repo)]} == {repo.head}
    assert store.branches(store.create_repo("team", "empty")) == []


def test_names_are_taken_once_and_deleted_once(store: Store, repo: Repo) -> None:
    made = store.create_branch(repo, "dev")
    store.create_tag(repo, "dev")
    with pytest.raises(ConflictError, match="exists"):
        store.create_branch(repo, "dev")
    with pytest.raises(ConflictError, match="taken"):
        store.create_tag(repo, "dev")
    assert store.create_branch(repo, "dev", exist_ok=True) == made
    store.delete_branch(repo, "dev")
    with pytest.raises(NotFoundError, match="no such branch"):
        store.delete_branch(repo, "dev")
    store.delete_tag(repo, "dev")
    with pytest.raises(NotFoundError, match="no such tag"):
        store.delete_tag(repo, "dev")
    assert len(store.branches(repo)) == 1


def test_main_can_be_neither_made_nor_deleted(store: Store, repo: Repo) -> None:
    with pytest.raises(ConflictError, match="exists"):
        store.create_branch(repo, "main")
    assert store.create_branch(repo, "main", exist_ok=True).commit == repo.head
    with pytest.raises(ConflictError, match="stays"):
        store.delete_branch(repo, "main")
    with pytest.raises(ConflictError, match="taken"):
        store.create_tag(repo, "main")


def test_a_branch_needs_a_commit_to_begin_at(store: Store, repo: Repo) -> None:
    empty = store.create_repo("team", "empty")
    for name in ("dev", "main"):
        with pytest.raises(NotFoundError, match="no commits"):
            store.create_branch(empty, name)
    with pytest.raises(NotFoundError, match="'dev'"):
        store.create_branch(store.require_repo("team/math"), "dev2", store.create_branch(repo, "dev").name + "x")


def test_of_equal_names_the_branch_comes_first_then_the_tag_then_digits(store: Store, repo: Repo) -> None:
    digits = str(repo.head)[:8]
    second = commit(store, repo, "second")
    store.create_tag(repo, digits, second.id)
    third = commit(store, repo, "third")
    assert content_at(store, repo, digits) == "second"
    store.create_branch(repo, digits, third.id)
    assert content_at(store, repo, digits) == "third"
    assert content_at(store, repo, f"refs/heads/{digits}") == "third"
    assert content_at(store, repo, f"refs/tags/{digits}") == "second"
    assert content_at(store, repo, str(repo.head)) == content_at(store, repo, str(repo.head)[:9]) == "first"


def test_whole_names_are_looked_up_as_they_stand(store: Store, repo: Repo) -> None:
    store.create_branch(repo, "dev")
    assert content_at(store, repo, "refs/heads/main") == "first"
    for revision in ("refs/heads/de", "refs/tags/dev", "refs/pr/1", "heads/dev", "DEV", "refs/", "%", "d_v"):
        with pytest.raises(NotFoundError, match="no such revision"):
            store.resolve_revision(repo, revision)


def test_two_repos_may_be_at_one_commit(store: Store, repo: Repo) -> None:
    other = store.create_repo("team", "copy")
    changes = {"a": keep(store, b"first", "a")}
    with store._database.write() as connection:
        write_commit(connection, other.id, changes, "copied", "me", commit_id=repo.head)
    assert store.require_repo("team/copy").head == repo.head
    assert (content_at(store, repo, "main"), content_at(store, other, "main")) == ("first", "copied")


def test_a_pull_request_is_a_branch_with_a_number(store: Store, repo: Repo) -> None:
    ref, made = store.open_pull_request(repo, {"b": keep(store, b"b", "b")}, "Add b", "you")
    assert (ref.ref, ref.name, ref.commit, ref.message) == ("refs/pr/1", "1", made.id, "Add b")
    assert made.parent == repo.head == store.require_repo("team/math").head
    more = store.commit(repo, {"c": keep(store, b"c", "c")}, "more", "you", made.id, "refs/pr/1")
    assert [entry.path for entry in store.tree(store.resolve_revision(repo, "refs/pr/1"))] == ["a", "b", "c"]
    assert [(pull.ref, pull.commit) for pull in store.pull_requests(repo)] == [("refs/pr/1", more.id)]
    assert [branch.name for branch in store.branches(repo)] == ["main"]
    second, unchanged = store.open_pull_request(repo, {}, "Later", "you", start="refs/pr/1")
    assert (second.ref, unchanged) == ("refs/pr/2", more)


def test_a_pull_request_can_be_the_first_commit_of_all(store: Store) -> None:
    repo = store.create_repo("team", "math")
    ref, made = store.open_pull_request(repo, {"b": keep(store, b"b", "b")}, "Add b", "you")
    assert (ref.commit, made.parent, store.require_repo("team/math").head) == (made.id, None, None)


def test_pull_requests_at_once_are_counted_without_gaps(store: Store, repo: Repo) -> None:
    def propose(number: int) -> None:
        store.open_pull_request(repo, {"b": keep(store, bytes([number]), "b")}, f"{number}", "you")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(propose, range(12)))
    assert [pull.name for pull in store.pull_requests(repo)] == [str(number) for number in range(1, 13)]


def test_of_writers_to_a_branch_with_one_parent_exactly_one_wins(store: Store, repo: Repo) -> None:
    store.create_branch(repo, "dev")

    def wins(number: int) -> bool:
        try:
            commit(store, repo, f"{number}", "dev", repo.head)
        except StaleParentError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(wins, range(8))) == 1
    assert store.count_commits(repo, "dev") == 2


def test_of_those_who_make_one_branch_at_once_one_does(store: Store, repo: Repo) -> None:
    def made(_number: int) -> bool:
        try:
            store.create_branch(repo, "dev")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(made, range(8))) == 1


def test_squashing_leaves_one_commit_with_the_same_files(store: Store, repo: Repo) -> None:
    store.create_branch(repo, "dev")
    newest = [commit(store, repo, f"{number}", "dev") for number in range(3)][-1]
    squashed = store.super_squash(repo, "Squash", "me", "dev")
    assert (squashed.parent, store.tip(repo, "dev")) == (None, squashed.id)
    assert store.tree(squashed) == store.tree(newest)
    assert (store.count_commits(repo, "dev"), store.count_commits(repo, newest.id)) == (1, 4)
    assert store.super_squash(repo, "Squash", "me").id == store.require_repo("team/math").head
    for missing in ("no", "refs/tags/no"):
        with pytest.raises(NotFoundError, match="no such branch"):
            store.super_squash(repo, "Squash", "me", missing)
    with pytest.raises(NotFoundError, match="no commits"):
        store.super_squash(store.create_repo("team", "empty"), "Squash", "me")


def test_a_deleted_repo_leaves_no_refs_to_one_of_its_name(store: Store, repo: Repo) -> None:
    store.create_branch(repo, "dev")
    store.delete_repo(repo)
    again = store.create_repo("team", "math")
    commit(store, again, "again")
    assert len(store.branches(again)) == 1
    for late in (lambda: store.create_branch(repo, "dev"), lambda: store.delete_branch(repo, "dev")):
        with pytest.raises(NotFoundError, match="deleted"):
            late()
