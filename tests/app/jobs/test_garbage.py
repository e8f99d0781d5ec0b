"""What compositions read and make, and what is left of it when they are cut off."""

from datetime import timedelta

from sqlalchemy import create_engine, text

from app.jobs.reconcile import Reconciler
from app.store.records import EVERYBODY
from tests.app.jobs.kitchen import Kitchen

AT_ONCE = timedelta(seconds=-1)


def collect(place: Kitchen) -> None:
    for sha256 in place.store.unneeded_blobs(AT_ONCE):
        place.store.collect_blob(sha256, place.blobs.delete)


def on_the_disk(place: Kitchen) -> set[str]:
    return {path.name for path in (place.settings.data / "blobs").rglob("*") if path.is_file()}


def named(place: Kitchen) -> set[str]:
    repos = [repo for repo in place.store.list_repos(EVERYBODY).items if repo.head]
    return {entry.sha256 for repo in repos for entry in place.store.tree(place.store.head(repo))}


def test_a_composition_cut_off_leaves_only_what_repos_name(place: Kitchen) -> None:
    """Some shards are done, one is under way, when its worker is killed; what is done is not lost before that."""
    worker = place.start("worker")
    composition = place.compose()
    place.wait(lambda: any(job.state == "done" for job in place.store.shards_of(composition.job_id)))
    worker.kill()
    worker.wait()
    collect(place)
    made = {job.result["sha256"] for job in place.store.shards_of(composition.job_id) if job.result}
    if place.composition(composition).is_open:
        assert made <= on_the_disk(place)
        place.jobs.cancel(composition.job_id)
        collect(place)
    assert on_the_disk(place) == named(place)


def test_deleting_the_inputs_of_what_is_built_frees_them_and_not_the_result(place: Kitchen) -> None:
    place.start("worker")
    done = place.wait_done(place.compose())
    before = {entry.sha256: entry for entry in place.store.tree(place.store.head(place.store.require_repo(done.name)))}
    for name in ("org/base", "team/a", "team/b"):
        place.store.delete_repo(place.store.require_repo(name))
    collect(place)
    assert on_the_disk(place) == named(place) == set(before)
    place.store.delete_repo(place.store.require_repo(done.name))
    collect(place)
    assert on_the_disk(place) == set()


def test_the_reconciler_collects_what_nobody_has_touched_for_a_while(place: Kitchen) -> None:
    reconciler = Reconciler(place.settings, place.store, place.redis)
    place.store.delete_repo(place.store.require_repo("team/b"))
    assert reconciler.collect() == [], "a moment ago somebody was at it"
    before, engine = on_the_disk(place), create_engine(place.settings.database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE blobs SET touched_at = touched_at - 10000000"))
    engine.dispose()
    assert len(reconciler.collect()) == 1, "the weights; the config is others' too"
    assert on_the_disk(place) < before
    assert on_the_disk(place) == named(place)
