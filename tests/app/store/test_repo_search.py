import pytest

from app.store.records import FileEntry
from app.store.repo_search import Order, RepoWish
from app.store.store import Store
from merge_core.errors import InputError
from tests.app.store.conftest import keep

NAMES = ("b/x", "a/y", "a.b/z", "a/x", "B/x", "a/m", "c/x")


@pytest.fixture
def published(store: Store) -> Store:
    """Repos made in the order of `NAMES`, and changed in the opposite one."""
    for name in NAMES:
        store.create_repo(*name.split("/"))
    for name in reversed(NAMES):
        repo = store.require_repo(name)
        store.commit(repo, {"README.md": keep(store, name.encode(), "README.md")}, "one", "me")
    return store


def pages(store: Store, wish: RepoWish, limit: int) -> list[list[str]]:
    found, cursor = [], None
    while True:
        page = store.search_repos(None, wish, limit, cursor)
        found.append([repo.full_name for repo in page.items])
        if (cursor := page.next_cursor) is None:
            return found


@pytest.mark.parametrize("limit", [1, 3, 7])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("order", ["name", "created_at", "updated_at"])
def test_pages_of_every_order_add_up_to_all_of_it(published: Store, order: Order, descending: bool, limit: int) -> None:
    wish = RepoWish(order=order, descending=descending)
    found = pages(published, wish, limit)
    expected = list(reversed(NAMES)) if order == "updated_at" else list(NAMES)
    flat = [name for page in found for name in page]
    if order == "name":  # databases disagree on the order of text
        assert sorted(flat) == sorted(NAMES)
        assert flat == pages(published, RepoWish(descending=not descending), 7)[0][::-1]
    else:
        assert flat == (expected[::-1] if descending else expected)
    assert {len(page) for page in found[:-1]} <= {limit}


def test_what_is_looked_for_can_be_narrowed(published: Store) -> None:
    published.set_gate(published.require_repo("a/y"), "auto")
    published.set_visibility(published.require_repo("a/m"), True)
    assert sorted(pages(published, RepoWish(namespace="a"), 2)[0]) == ["a/x", "a/y"]
    assert pages(published, RepoWish(gated=True), 9) == [["a/y"]]
    assert sorted(pages(published, RepoWish(search="B/", gated=False), 9)[0]) == ["B/x", "a.b/z", "b/x"]
    assert pages(published, RepoWish(search="%"), 9) == [[]]


def test_the_newest_file_at_a_path_is_found_for_many_repos_at_once(published: Store) -> None:
    repos = [published.require_repo(name) for name in NAMES]
    empty = published.create_repo("d", "empty")
    card = keep(published, b"newer", "README.md")
    published.commit(repos[0], {"README.md": card}, "two", "me")
    published.commit(repos[1], {"README.md": None, "other": card}, "two", "me")
    published.create_branch(repos[2], "dev")
    published.commit(repos[2], {"README.md": card}, "two", "me", branch="dev")
    found = published.head_files([repo.id for repo in [*repos, empty]], "README.md")
    old = keep(published, NAMES[2].encode(), "README.md")
    assert (found[repos[0].id], found[repos[2].id]) == (FileEntry("README.md", card.sha256, 5), old)
    assert set(found) == {repo.id for repo in repos} - {repos[1].id}
    assert published.head_files([], "README.md") == {}


@pytest.mark.parametrize("cursor", ["", "x", "1", "1/", "/1", "-1/1", "9" * 18 + "/1", "1/" + "9" * 30, "1.5/2"])
def test_a_made_up_place_in_a_dated_list_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InputError, match="cursor"):
        store.search_repos(None, RepoWish(order="updated_at"), 9, cursor)
