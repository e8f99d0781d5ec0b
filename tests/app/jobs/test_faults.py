"""Processes die, messages get lost, commands come too late: everything is still done, and done once."""

import os
import signal
import time

import psutil
import pytest

from app.jobs.queue import QUEUES
from app.jobs.reconcile import Reconciler
from app.store.records import Composition
from tests.app.jobs.kitchen import Kitchen

TAKEN_UP_S = 20.0
CANCELLED_S = 1.0


def assert_built_once(place: Kitchen, composition: Composition, seconds: float = 60.0) -> None:
    done = place.wait_done(composition, seconds)
    for job in place.family(done):
        assert (job.state, place.happened(job, "done")) == ("done", 1)
    assert [commit.id for commit in place.store.commits(place.store.require_repo(done.name))] == [done.commit]


@pytest.mark.slow
@pytest.mark.parametrize("with_reconciler", [False, True], ids=["by lease", "by reconciler"])
def test_the_job_of_a_killed_worker_is_taken_up_in_time_and_finishes_once(
    place: Kitchen, with_reconciler: bool
) -> None:
    killed = place.start("worker")
    composition = place.compose()
    process, job = place.freeze_at_work(killed)
    place.start("worker")
    if with_reconciler:
        place.start("reconcile")
    place.wait(lambda: place.redis.scard("rq:workers") == 2)
    killed.kill()
    killed.wait()
    place.wait(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 2.0)
    place.wait(lambda: place.job(job.id).attempts == 2, TAKEN_UP_S)
    assert_built_once(place, composition)
    assert place.staged() == []


@pytest.mark.slow
def test_a_worker_that_all_others_took_for_dead_commits_nothing(place: Kitchen) -> None:
    frozen = place.start("worker")
    composition = place.compose()
    process, job = place.freeze_at_work(frozen)
    frozen.send_signal(signal.SIGSTOP)  # no heartbeat, as behind a broken network
    place.start("worker")
    assert_built_once(place, composition)
    before = place.job(job.id)
    frozen.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGCONT)
    place.wait(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)
    assert place.job(job.id) == before
    assert_built_once(place, composition)


@pytest.mark.slow
def test_an_emptied_queue_is_filled_again_from_the_records(place: Kitchen) -> None:
    worker = place.start("worker")
    place.start("reconcile")
    compositions = [place.compose("soups/one", 0.5), place.compose("soups/two", 2.0)]
    process, _ = place.freeze_at_work(worker)
    place.redis.flushall()
    process.send_signal(signal.SIGCONT)
    for composition in compositions:
        assert_built_once(place, composition)


@pytest.mark.slow
def test_a_job_that_fell_out_of_the_queue_is_put_back_on_the_second_look(place: Kitchen) -> None:
    composition = place.compose()
    reconciler = Reconciler(place.settings, place.store, place.redis)
    assert reconciler.leads()
    assert reconciler.sweep() == []
    for name in QUEUES:
        place.redis.delete(place.jobs.queue(name).key)
    assert reconciler.sweep() == [], "it may be on its way to a worker"
    shards = {shard.id for shard in place.store.shards_of(composition.job_id)}
    assert set(reconciler.sweep()) == shards
    assert reconciler.sweep() == []
    place.start("worker")
    assert_built_once(place, composition)


def test_one_reconciler_acts_at_a_time(place: Kitchen) -> None:
    first, second = (Reconciler(place.settings, place.store, place.redis) for _ in range(2))
    assert [first.leads(), second.leads(), first.leads()] == [True, False, True]


def test_a_finaliser_left_waiting_for_shards_that_are_over_is_queued_again(place: Kitchen) -> None:
    composition = place.compose()
    for shard in place.store.shards_of(composition.job_id):
        token = place.store.claim(shard.id)
        assert token is not None
        place.store.finish(shard.id, token, {"path": "x", "sha256": "0" * 64, "size": 1})
        place.jobs.forget(shard.id)
    reconciler = Reconciler(place.settings, place.store, place.redis)
    reconciler.sweep()
    assert reconciler.sweep() == [composition.job_id]
    assert place.jobs.queue(QUEUES[0]).get_job_ids() == [composition.job_id]


def test_a_running_job_is_cancelled_within_a_second(place: Kitchen) -> None:
    worker = place.start("worker")
    composition = place.compose()
    process, _ = place.freeze_at_work(worker)
    begun = time.monotonic()
    place.jobs.cancel(composition.job_id)
    place.wait(lambda: not process.is_running(), CANCELLED_S)
    assert time.monotonic() - begun < CANCELLED_S
    assert place.composition(composition).state == "cancelled"
    place.wait(lambda: not place.staged())
    assert place.store.due_jobs() == []
    again = place.compose()
    assert again.id != composition.id
    assert_built_once(place, again)


def test_a_cancel_whose_command_got_lost_still_ends_the_process(place: Kitchen) -> None:
    worker = place.start("worker")
    composition = place.compose()
    process, _ = place.freeze_at_work(worker)
    for job_id in place.store.request_cancel(composition.job_id):
        assert place.job(job_id).state == "cancelled"
    Reconciler(place.settings, place.store, place.redis).tick()
    place.wait(lambda: not process.is_running(), CANCELLED_S)


def test_a_process_that_dies_each_time_fails_the_job_and_spares_the_worker(place: Kitchen) -> None:
    worker = place.start("worker")
    composition = place.compose()
    while place.composition(composition).is_open:
        process, job = place.freeze_at_work(worker)
        process.kill()
        place.wait(lambda job=job: place.job(job.id).state != "running")
    ended = place.composition(composition)
    assert ended.state == "failed"
    assert ended.error is not None
    assert "signal 9" in ended.error["message"]
    assert worker.poll() is None


def test_no_process_outlives_its_worker(place: Kitchen) -> None:
    worker = place.start("worker")
    place.compose()
    process, _ = place.freeze_at_work(worker)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    place.wait(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, 2.0)
