from concurrent.futures import ThreadPoolExecutor

import pytest

from app.store.records import EVERYBODY, FileEntry, may_read
from app.store.store import Store
from merge_core.errors import ConflictError, InputError, NotFoundError, StaleParentError
from tests.app.store.conftest import keep


def test_a_commit_keeps_its_whole_tree(store: Store) -> None:
    repo = store.create_repo("team", "math")
    first = store.commit(repo, {"a": keep(store, b"1", "a"), "b/c": keep(store, b"2", "b/c")}, "one", "me")
    second = store.commit(repo, {"a": None, "d": keep(store, b"3", "d")}, "two", "me", first.id)
    assert [entry.path for entry in store.tree(first)] == ["a", "b/c"]
    assert [entry.path for entry in store.tree(second)] == ["b/c", "d"]
    assert second.parent == first.id
    assert [commit.id for commit in store.commits(repo)] == [second.id, first.id]
    assert [commit.id for commit in store.commits(repo, first.id)] == [first.id]
    assert store.head(repo) == second


def test_a_stale_parent_is_a_conflict_that_names_the_head(store: Store) -> None:
    repo = store.create_repo("team", "math")
    first = store.commit(repo, {"a": keep(store, b"1", "a")}, "one", "me")
    second = store.commit(repo, {"a": keep(store, b"2", "a")}, "two", "me", first.id)
    with pytest.raises(ConflictError, match=second.id):
        store.commit(repo, {"a": keep(store, b"3", "a")}, "three", "me", first.id)


def test_a_parent_may_be_named_by_its_first_digits(store: Store) -> None:
    repo = store.create_repo("team", "math")
    first = store.commit(repo, {"a": keep(store, b"1", "a")}, "one", "me")
    with pytest.raises(StaleParentError):
        store.commit(repo, {"a": keep(store, b"2", "a")}, "two", "me", first.id[:6])
    with pytest.raises(StaleParentError, match="no parent"):
        store.commit(store.create_repo("team", "empty"), {"a": keep(store, b"2", "a")}, "two", "me", first.id)
    second = store.commit(repo, {"a": keep(store, b"2", "a")}, "two", "me", first.id[:7].upper())
    assert second.parent == first.id


def test_a_folder_is_deleted_with_all_that_is_in_it_but_not_what_the_commit_puts_there(store: Store) -> None:
    repo = store.create_repo("team", "math")
    store.commit(repo, {path: keep(store, b"1", path) for path in ("a/b", "a/c/d", "ab", "e")}, "one", "me")
    commit = store.commit(repo, {"a/new": keep(store, b"2", "a/new"), "a/": None}, "two", "me")
    assert [entry.path for entry in store.tree(commit)] == ["a/new", "ab", "e"]
    for path in ("a/c/", "e/", "a/b"):
        with pytest.raises(NotFoundError, match="to delete"):
            store.commit(repo, {path: None}, "three", "me")


def test_a_history_can_be_read_in_stretches(store: Store) -> None:
    repo = store.create_repo("team", "math")
    made = [store.commit(repo, {"a": keep(store, bytes([n]), "a")}, f"{n}", "me") for n in range(7)][::-1]
    assert [store.commits(repo, limit=3, offset=offset) for offset in (0, 3, 6, 9)] == [
        made[:3],
        made[3:6],
        made[6:],
        [],
    ]
    assert store.commits(repo, made[2].id, limit=2, offset=1) == made[3:5]
    assert (store.count_commits(repo), store.count_commits(repo, made[2].id)) == (7, 5)


def test_a_commit_on_a_branch_that_is_not_there_is_refused(store: Store) -> None:
    repo = store.create_repo("team", "math")
    for branch in ("dev", "refs/heads/dev", "refs/pr/1", "refs/tags/v1"):
        with pytest.raises(NotFoundError, match="no such branch"):
            store.commit(repo, {"a": keep(store, b"1", "a")}, "one", "me", branch=branch)
    assert store.commit(repo, {"a": keep(store, b"1", "a")}, "one", "me", branch="refs/heads/main").parent is None


def test_an_unchanged_tree_makes_no_commit(store: Store) -> None:
    repo = store.create_repo("team", "math")
    entry = keep(store, b"1", "a")
    first = store.commit(repo, {"a": entry}, "one", "me")
    assert store.commit(repo, {"a": entry}, "again", "me") == first
    assert len(store.commits(repo)) == 1


def test_bytes_that_are_not_here_cannot_be_committed(store: Store) -> None:
    repo = store.create_repo("team", "math")
    with pytest.raises(NotFoundError, match="a"):
        store.commit(repo, {"a": FileEntry("a", "0" * 64, 1)}, "one", "me")
    wrong_size = FileEntry("a", keep(store, b"1").sha256, 2)
    with pytest.raises(NotFoundError, match="2 bytes"):
        store.commit(repo, {"a": wrong_size}, "one", "me")
    assert store.require_repo("team/math").head is None


def test_a_file_and_a_folder_cannot_share_a_name(store: Store) -> None:
    repo = store.create_repo("team", "math")
    store.commit(repo, {"a": keep(store, b"1", "a")}, "one", "me")
    with pytest.raises(InputError, match="a/b"):
        store.commit(repo, {"a/b": keep(store, b"2", "a/b")}, "two", "me")


def test_deleting_a_file_that_is_not_there_suggests_one_that_is(store: Store) -> None:
    repo = store.create_repo("team", "math")
    store.commit(repo, {"config.json": keep(store, b"1")}, "one", "me")
    with pytest.raises(NotFoundError, match=r"config\.json"):
        store.commit(repo, {"confg.json": None}, "two", "me")


def test_revisions_are_branch_commit_and_unique_prefix(store: Store) -> None:
    repo = store.create_repo("team", "math")
    with pytest.raises(NotFoundError, match="no commits"):
        store.resolve_revision(repo)
    commit = store.commit(repo, {"a": keep(store, b"1", "a")}, "one", "me")
    for revision in ("main", commit.id, commit.id[:7], commit.id.upper()):
        assert store.resolve_revision(repo, revision) == commit
    for revision in (commit.id[:6], "f" * 40, "mian", "", "%" * 7, commit.id + "0"):
        with pytest.raises(NotFoundError):
            store.resolve_revision(repo, revision)


def test_names_are_taken_once(store: Store) -> None:
    repo = store.create_repo("team", "math")
    with pytest.raises(ConflictError):
        store.create_repo("team", "math")
    assert store.ensure_repo("team", "math", private=True) == repo


def test_a_private_repo_is_seen_by_its_namespace_alone(store: Store) -> None:
    hidden = store.create_repo("team", "secret", private=True)
    store.create_repo("team", "open")
    ours, _ = store.create_token("ours", {"read"}, {"team"})
    theirs, _ = store.create_token("theirs", {"admin"}, {"other"})
    names = {
        caller: [repo.name for repo in store.list_repos(caller).items] for caller in (None, theirs, ours, EVERYBODY)
    }
    assert names == {None: ["open"], theirs: ["open"], ours: ["open", "secret"], EVERYBODY: ["open", "secret"]}
    assert [may_read(caller, hidden) for caller in (None, theirs, ours, EVERYBODY)] == [False, False, True, True]
    assert "team/secret" not in store.known_names(None)


def test_pages_of_repos_add_up_to_all_of_them(store: Store) -> None:
    wanted = [(space, name) for space in ("a", "a.b", "b") for name in ("x", "y", "z")]
    for space, name in wanted:
        store.create_repo(space, name)
    seen, cursor = [], None
    while page := store.list_repos(None, limit=2, cursor=cursor):
        seen += [(repo.namespace, repo.name) for repo in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert sorted(seen) == sorted(wanted)
    assert len(seen) == len(wanted)


def test_listings_can_be_narrowed(store: Store) -> None:
    store.create_repo("team", "Math_lora")
    store.create_repo("team", "code", kind="base")
    store.create_repo("other", "math")
    assert [repo.full_name for repo in store.list_repos(None, search="mATH").items] == ["other/math", "team/Math_lora"]
    assert [repo.full_name for repo in store.list_repos(None, search="h_l").items] == ["team/Math_lora"]
    assert [repo.full_name for repo in store.list_repos(None, namespace="team", kind="base").items] == ["team/code"]


def test_a_deleted_repo_is_gone_and_its_name_free(store: Store) -> None:
    repo = store.create_repo("team", "math")
    entry = keep(store, b"1", "a")
    store.commit(repo, {"a": entry}, "one", "me")
    store.delete_repo(repo)
    assert store.get_repo("team", "math") is None
    with pytest.raises(NotFoundError):
        store.commit(repo, {"a": entry}, "two", "me")
    assert store.create_repo("team", "math").id != repo.id


def test_commits_at_once_are_all_in_the_history(store: Store) -> None:
    repo = store.create_repo("team", "math")

    def add(number: int) -> None:
        store.commit(repo, {f"f{number}": keep(store, str(number).encode(), f"f{number}")}, "add", "me")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(40)))
    assert len(store.tree(store.head(repo))) == 40
    assert len(store.commits(repo)) == 40


def test_of_writers_with_one_parent_exactly_one_wins(store: Store) -> None:
    repo = store.create_repo("team", "math")
    first = store.commit(repo, {"a": keep(store, b"0", "a")}, "one", "me")

    def commit(number: int) -> bool:
        try:
            store.commit(repo, {"a": keep(store, bytes([number + 1]), "a")}, "two", "me", first.id)
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(commit, range(8))) == 1
