"""Which composition a name means before it is built, and how far its files are."""

from collections.abc import Sequence

import pytest

from app.store.records import Composition, PlannedFile, Ready
from app.store.store import Store
from merge_core.errors import NotFoundError

DIGEST = "ab12" * 16


def asked(store: Store, name: str = "soups/mix", digest: str = DIGEST, *, lazy: bool = False) -> Composition:
    return store.create_composition(name, {}, digest, {}, [10, 20], files=planned(), lazy=lazy)


def planned() -> Sequence[PlannedFile]:
    return [PlannedFile("a", 10, "1" * 64, 0, 3, 0), PlannedFile("b", 20, "1" * 64, 3, 4, 1)]


def states(store: Store, composition: Composition) -> set[str]:
    root = store.get_job(composition.job_id)
    found = store.get_composition(composition.id)
    assert root is not None
    assert found is not None
    return {root.state, found.state, *(shard.state for shard in store.shards_of(root.id))}


def test_what_is_planned_is_for_nobody_until_it_is_started_once(store: Store) -> None:
    composition = asked(store, lazy=True)
    assert composition.files == tuple(planned())
    assert states(store, composition) == {"planned"}
    assert store.claim(store.shards_of(composition.job_id)[0].id) is None
    assert [store.start_composition(composition) for _ in range(2)] == [True, False]
    assert states(store, composition) == {"queued"}
    assert store.claim(store.shards_of(composition.job_id)[0].id) is not None


def test_of_one_digest_there_is_one_planned_composition(store: Store) -> None:
    first = asked(store, lazy=True)
    assert asked(store, "soups/other").id == first.id
    store.request_cancel(first.job_id)
    assert states(store, first) == {"cancelled"}
    assert not store.start_composition(first)
    assert asked(store).id != first.id


def test_a_deleted_composition_cannot_be_started(store: Store) -> None:
    composition = asked(store, lazy=True)
    store.delete_repo(store.require_repo("soups/mix"))
    assert not store.start_composition(composition)
    assert store.build_progress(composition) is None
    with pytest.raises(NotFoundError):
        store.require_repo("soups/mix")


def test_progress_tells_what_can_be_read_until_another_attempt_begins(store: Store) -> None:
    composition = asked(store)
    first, second = store.shards_of(composition.job_id)
    lease = store.claim(first.id)
    assert lease is not None
    store.progress(first.id, lease, 5, 10, Ready("staging/x", 7))
    progress = store.build_progress(composition)
    assert progress is not None
    assert (progress.state, progress.names) == ("running", {"soups/mix"})
    assert [progress.shards[number].ready for number in (0, 1)] == [Ready("staging/x", 7), None]
    store.requeue(first.id)
    again = store.claim(first.id)
    assert again is not None
    store.progress(first.id, again, 1, 10)
    progress = store.build_progress(composition)
    assert progress is not None
    assert progress.shards[0].ready is None
    store.finish(first.id, again, {"sha256": "2" * 64})
    store.request_cancel(second.id)
    progress = store.build_progress(composition)
    assert progress is not None
    assert (progress.state, progress.shards[0].sha256, progress.shards[1].sha256) == ("cancelled", "2" * 64, None)


def test_a_name_awaits_what_was_asked_for_last_under_it(store: Store) -> None:
    first, second = asked(store), asked(store, digest="cd34" * 16)
    repo = store.require_repo("soups/mix")
    assert repo.awaits == second.id
    assert store.awaited_by(repo) == second
    named = store.add_name(first, "soups/mix", private=False, author="me")
    assert store.require_repo("soups/mix").awaits == named.id == first.id
    store.add_name(first, "soups/other", private=False, author="me")
    other = store.awaited_by(store.require_repo("soups/other"))
    assert other is not None
    assert (other.id, other.name) == (first.id, "soups/other")
    store.request_cancel(first.job_id)
    failed = store.awaited_by(store.require_repo("soups/other"))
    assert failed is not None
    assert failed.state == "cancelled"


def test_a_commit_names_what_goes_on_rather_than_what_ended(store: Store) -> None:
    first = asked(store)
    assert store.asked_at("soups/mix", DIGEST[:40]) == first
    assert store.asked_at("soups/mix", DIGEST[:7]) == first
    assert store.asked_at("soups/other", DIGEST[:40]) is None
    assert store.asked_at("soups/mix", "ab_2" * 10) is None
    store.request_cancel(first.job_id)
    ended = store.asked_at("soups/mix", DIGEST[:40])
    assert ended is not None
    assert (ended.id, ended.state) == (first.id, "cancelled")
    second = asked(store)
    assert store.asked_at("soups/mix", DIGEST[:40]) == second
