import pytest

from app.store.records import DeltaRecord, FileEntry, Repo
from app.store.store import Store
from app.store.subject import now
from merge_core.errors import ConflictError, NotFoundError
from tests.app.store.conftest import keep


@pytest.fixture
def repo(store: Store) -> Repo:
    made = store.create_repo("team", "math", private=True)
    store.commit(made, {"a": keep(store, b"1", "a")}, "one", "me")
    return store.require_repo("team/math")


def compose(store: Store, name: str, source: str = "x/y", digest: str = "d") -> str:
    recipe = {"base": f"{source}@{'0' * 40}"}
    return store.create_composition(name, recipe, digest * 64, {}, [1, 2]).id


def built(store: Store, composition_id: str) -> str:
    """Do what workers do; the name of the repo that the files are in."""
    composition = store.get_composition(composition_id)
    assert composition is not None
    for shard in store.shards_of(composition.job_id):
        lease = store.claim(shard.id)
        assert lease is not None
        store.finish(shard.id, lease, {})
    job, lease = store.get_job(composition.job_id), store.claim(composition.job_id)
    assert job is not None
    assert lease is not None
    store.publish_composition(job, lease, [FileEntry("a", keep(store, b"1").sha256, 1)], "Built")
    finished = store.get_job(job.id)
    assert finished is not None
    return str((finished.result or {})["repo"])


def test_a_repo_keeps_everything_but_its_name(store: Store, repo: Repo) -> None:
    store.create_branch(repo, "dev")
    moved = store.move_repo(repo, "other", "maths")
    assert (moved.full_name, moved.id, moved.head, moved.private) == ("other/maths", repo.id, repo.head, True)
    assert store.require_repo("other/maths") == moved
    assert store.get_repo("team", "math") is None
    assert [branch.name for branch in store.branches(moved)] == ["main", "dev"]
    assert store.count_commits(moved) == 1
    assert store.create_repo("team", "math").id != repo.id


def test_a_name_that_is_taken_is_not_taken_again_and_nothing_changes(store: Store, repo: Repo) -> None:
    store.create_repo("other", "maths")
    job = store.create_job("ingest", "team/math@0", {"repo": "team/math", "commit": "0"}, repo="team/math")
    with pytest.raises(ConflictError, match="other/maths"):
        store.move_repo(repo, "other", "maths")
    assert store.require_repo("team/math") == repo
    assert store.get_job(job.id) == job


def test_a_repo_that_is_gone_or_has_moved_is_not_found(store: Store, repo: Repo) -> None:
    store.move_repo(repo, "other", "maths")
    with pytest.raises(NotFoundError, match="team/math"):
        store.move_repo(repo, "third", "maths")
    store.create_repo("team", "math")
    with pytest.raises(NotFoundError, match="team/math"):
        store.move_repo(repo, "third", "maths")


def test_looks_that_are_open_begin_again_under_the_new_name(store: Store, repo: Repo) -> None:
    payload = {"repo": "team/math", "commit": str(repo.head)}
    job = store.create_job("ingest", f"team/math@{repo.head}", payload, repo="team/math")
    lease = store.claim(job.id)
    assert lease is not None
    pull = store.create_job("pull", "team/math@main", {"repo": "team/math", "revision": "main"}, repo="team/math")
    store.move_repo(repo, "other", "maths")
    assert store.states_of([job.id, pull.id]) == {job.id: "cancelled", pull.id: "cancelled"}
    assert not store.holds(job.id, lease)
    [again] = store.due_jobs()
    assert (again.repo, again.subject_id) == ("other/maths", f"other/maths@{repo.head}")
    assert again.payload == {"repo": "other/maths", "commit": repo.head}
    assert {found.repo for found in store.list_jobs(None).items} == set()
    assert len(store.list_jobs(store.create_token("t", {"read"}, {"other"})[0]).items) == 3


def test_a_composition_under_way_is_published_under_the_new_name(store: Store) -> None:
    identity = compose(store, "soups/mix")
    composition = store.get_composition(identity)
    assert composition is not None
    store.add_name(composition, "soups/second", private=False, author="you")
    store.move_repo(store.require_repo("soups/mix"), "soups", "first")
    store.move_repo(store.require_repo("soups/second"), "other", "second")
    assert built(store, identity) == "soups/first"
    for name in ("soups/first", "other/second"):
        assert store.require_repo(name).head == "d" * 40
    assert store.get_composition("soups/mix") is None
    assert store.get_composition("soups/first") == store.get_composition(identity)
    assert store.get_repo("soups", "mix") is None


def test_what_a_composition_under_way_reads_stays_where_it_is(store: Store, repo: Repo) -> None:
    other = store.create_repo("team", "math2")
    identity = compose(store, "soups/mix", "team/math")
    with pytest.raises(ConflictError, match="under way"):
        store.move_repo(repo, "other", "maths")
    assert store.move_repo(other, "other", "math2").full_name == "other/math2"
    built(store, identity)
    assert store.move_repo(repo, "other", "maths").full_name == "other/maths"


def test_deltas_follow_their_base(store: Store, repo: Repo) -> None:
    store.set_visibility(repo, False)
    lora = store.create_repo("team", "lora")
    commit = store.commit(lora, {"a": keep(store, b"1", "a")}, "one", "me")
    found = DeltaRecord("d" * 32, "team/lora", commit.id, "Math", "delta", "lora", "ok", None, {}, now(), "team/math")
    store.put_delta(found)
    store.move_repo(repo, "other", "maths")
    store.move_repo(lora, "other", "lora")
    [moved] = store.list_deltas(None, base="other/maths").items
    assert (moved.repo, moved.base, moved.base_repo) == ("other/lora", "Math", "other/maths")
