"""Bytes go when nothing needs them, and not before; two who want the opposite at once keep out of each other's way."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest

from app.store.records import EVERYBODY, FileEntry
from app.store.store import Store
from app.store.surveys import KeptSurveys
from merge_core.errors import NotFoundError
from tests.app.store.conftest import keep

AT_ONCE = timedelta(seconds=-1)
ADDRESS = "1" * 64


def collected(store: Store, remove: Callable[[str], None] = lambda sha256: None) -> set[str]:
    return {sha256 for sha256 in store.unneeded_blobs(AT_ONCE) if store.collect_blob(sha256, remove)}


def asked_for(store: Store, digest: str, inputs: list[str]) -> tuple[str, str]:
    """A composition of one shard: the ids of its finaliser and its shard."""
    composition = store.create_composition("soups/mix", {}, digest, {}, [10], inputs=inputs)
    [shard] = store.shards_of(composition.job_id)
    return composition.job_id, shard.id


def test_what_the_last_repo_gives_up_goes_with_its_survey_results(store: Store) -> None:
    shared, own = keep(store, b"shared"), keep(store, b"own")
    repos = [store.create_repo("team", name) for name in ("one", "two")]
    store.commit(repos[0], {"a": shared, "b": own}, "one", "me")
    store.commit(repos[1], {"a": shared}, "two", "me")
    for entry in (shared, own):
        KeptSurveys(store, [entry.sha256]).put({entry.sha256: b"found"})
    assert collected(store) == set()
    store.delete_repo(repos[0])
    removed: list[str] = []
    assert collected(store, removed.append) == {own.sha256}
    assert removed == [own.sha256]
    assert not store.blob_known(own.sha256)
    assert store.get_surveys([own.sha256, shared.sha256]) == {shared.sha256: b"found"}
    store.delete_repo(repos[1])
    assert collected(store) == {shared.sha256}
    assert store.count_blobs() == (0, 0)


def test_an_older_commit_needs_its_files_as_the_head_does(store: Store) -> None:
    repo = store.create_repo("team", "math")
    first, second = keep(store, b"first"), keep(store, b"second")
    store.commit(repo, {"a": first}, "one", "me")
    store.commit(repo, {"a": second}, "two", "me")
    assert collected(store) == set()


def test_bytes_that_were_just_touched_are_left_alone(store: Store) -> None:
    entry = keep(store, b"sent by nobody we know")
    assert store.unneeded_blobs() == []
    assert store.unneeded_blobs(AT_ONCE) == [entry.sha256]


def test_bytes_that_are_sent_again_wait_for_the_commit_that_follows(store: Store) -> None:
    assert not store.promise_blob(ADDRESS, EVERYBODY)
    store.announce_blob(ADDRESS, 5)
    assert not store.promise_blob(ADDRESS, EVERYBODY), "they are not here yet"
    store.record_blob(ADDRESS, 5)
    assert store.promise_blob(ADDRESS, EVERYBODY)
    assert collected(store) == set()
    store.settle_blobs([ADDRESS], EVERYBODY)
    assert collected(store) == {ADDRESS}


def test_what_was_sent_waits_for_each_sender_s_commit(store: Store) -> None:
    """Two send the same bytes; one commits them and takes them back, the other still counts on them."""
    for _ in range(2):
        store.announce_blob(ADDRESS, 5, owner=EVERYBODY)
        store.record_blob(ADDRESS, 5, EVERYBODY)
    repo = store.create_repo("team", "math")
    store.commit(repo, {"a": FileEntry("a", ADDRESS, 5)}, "one", "me")
    store.settle_blobs([ADDRESS], EVERYBODY)
    store.delete_repo(repo)
    assert collected(store) == set()
    other = store.create_repo("team", "code")
    store.commit(other, {"a": FileEntry("a", ADDRESS, 5)}, "two", "me")
    store.settle_blobs([ADDRESS], EVERYBODY)
    store.delete_repo(other)
    assert collected(store) == {ADDRESS}


def test_bytes_that_a_caller_was_told_not_to_send_wait_for_the_commit(store: Store) -> None:
    entry = keep(store, b"there already")
    store.promise_blobs([entry.sha256], EVERYBODY)
    assert collected(store) == set()


def test_an_upload_that_never_arrived_goes_once_nobody_is_at_work(store: Store) -> None:
    store.announce_blob(ADDRESS, 5, owner=EVERYBODY)
    assert not store.blob_known(ADDRESS)
    with pytest.raises(NotFoundError):
        store.commit(store.create_repo("team", "math"), {"a": FileEntry("a", ADDRESS, 5)}, "one", "me")
    assert collected(store) == set(), "it may be on its way"
    store.abandon_arrivals()
    assert collected(store) == {ADDRESS}


@pytest.mark.parametrize("end", ["cancel", "fail"])
def test_a_composition_needs_what_it_reads_and_makes_until_it_is_over(store: Store, end: str) -> None:
    base = keep(store, b"base")
    repo = store.create_repo("org", "base")
    store.commit(repo, {"a": base}, "one", "me")
    finaliser, shard = asked_for(store, "d" * 64, [base.sha256, "f" * 64])
    store.delete_repo(repo)
    store.announce_blob(ADDRESS, 5, job_id=shard)
    token = store.claim(shard)
    assert token is not None
    store.finish(shard, token, {})
    assert collected(store) == set()
    if end == "cancel":
        store.request_cancel(finaliser)
    else:
        lease = store.claim(finaliser)
        assert lease is not None
        store.fail(finaliser, lease, {"message": "no"})
    assert collected(store) == {base.sha256, ADDRESS}


def test_what_a_composition_has_made_stays_with_its_repo(store: Store) -> None:
    finaliser, shard = asked_for(store, "d" * 64, [])
    token = store.claim(shard)
    assert token is not None
    store.announce_blob(ADDRESS, 5, job_id=shard)
    store.finish(shard, token, {})
    lease, job = store.claim(finaliser), store.get_job(finaliser)
    assert lease is not None
    assert job is not None
    store.publish_composition(job, lease, [FileEntry("model.safetensors", ADDRESS, 5)], "Built")
    assert collected(store) == set()
    store.delete_repo(store.require_repo("soups/mix"))
    assert collected(store) == {ADDRESS}


def test_who_dies_between_marking_and_forgetting_leaves_what_the_next_one_finishes(store: Store) -> None:
    entry = keep(store, b"half gone")

    def die(sha256: str) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        store.collect_blob(entry.sha256, die)
    assert not store.blob_known(entry.sha256), "its bytes may be gone: nobody is to commit it"
    assert not store.may_read_blob(EVERYBODY, entry.sha256)
    with pytest.raises(NotFoundError):
        store.commit(store.create_repo("team", "math"), {"a": entry}, "one", "me")
    assert store.unneeded_blobs() == [entry.sha256]
    assert collected(store) == {entry.sha256}


def test_bytes_that_are_sent_again_while_they_go_are_there_in_the_end(store: Store) -> None:
    """The sender waits until they are gone, and only then looks whether they must be put in the store."""
    entry = keep(store, b"going and coming")
    shelf, removing, announced = {entry.sha256}, Event(), Event()

    def remove(sha256: str) -> None:
        removing.set()
        assert not announced.wait(0.3), "the announcement did not wait"
        shelf.discard(sha256)

    def send() -> None:
        assert removing.wait(20)
        store.announce_blob(entry.sha256, entry.size, owner=EVERYBODY)
        announced.set()
        if entry.sha256 not in shelf:
            shelf.add(entry.sha256)
        store.record_blob(entry.sha256, entry.size, EVERYBODY)

    with ThreadPoolExecutor(2) as threads:
        sent = threads.submit(send)
        assert threads.submit(store.collect_blob, entry.sha256, remove).result(30)
        sent.result(30)
    assert shelf == {entry.sha256}
    assert store.blob_known(entry.sha256)
    assert collected(store) == set()


def test_many_who_send_commit_delete_and_collect_lose_nothing(store: Store) -> None:
    """Every commit's bytes are there when it is made, and in the end as many are left as somebody names."""
    shelf: set[str] = set()
    addresses = [f"{number:064x}" for number in range(3)]
    failures: list[str] = []

    def publish(worker: int) -> None:
        for turn in range(8):
            address = addresses[(worker + turn) % len(addresses)]
            repo = store.create_repo("team", f"r{worker}-{turn}")
            store.announce_blob(address, 5, owner=EVERYBODY)
            shelf.add(address)
            store.record_blob(address, 5, EVERYBODY)
            store.commit(repo, {"a": FileEntry("a", address, 5)}, "one", "me")
            store.settle_blobs([address], EVERYBODY)
            failures.extend([address] if address not in shelf else [])
            if turn % 4:
                store.delete_repo(repo)

    def collect(done: Event) -> None:
        while not done.is_set():
            collected(store, shelf.discard)

    done = Event()
    with ThreadPoolExecutor(4) as threads:
        collector = threads.submit(collect, done)
        for publisher in [threads.submit(publish, worker) for worker in range(3)]:
            publisher.result(60)
        done.set()
        collector.result(60)
    collected(store, shelf.discard)
    assert failures == []
    named = {entry.sha256 for repo in store.list_repos(EVERYBODY).items for entry in store.tree(store.head(repo))}
    assert shelf == named
    assert store.count_blobs()[0] == len(named)
