import pytest
from sqlalchemy.exc import IntegrityError

from app.store.job_rows import LeaseLostError
from app.store.jobs import MOST_CRASHES
from app.store.records import EVERYBODY, Composition, FileEntry, Job, Token
from app.store.store import Store
from app.store.subject import now
from merge_core.errors import ConflictError, InputError, NotFoundError
from tests.app.store.conftest import keep


def ask(store: Store, name: str = "soups/mix", digest: str = "d" * 64, shards: int = 2) -> Composition:
    return store.create_composition(name, {"seed": 1}, digest, {"shards": shards}, [100] * shards, author="me")


def finished_shards(store: Store, composition: Composition) -> None:
    for shard in store.shards_of(composition.job_id):
        token = store.claim(shard.id)
        assert token is not None
        store.finish(shard.id, token, {"path": f"{shard.payload['shard']}.safetensors"})


def job_of(store: Store, job_id: str) -> Job:
    job = store.get_job(job_id)
    assert job is not None
    return job


def kinds(store: Store, job_id: str) -> list[str]:
    return [event.kind for event in store.events_since(job_id)]


def test_a_job_goes_from_queued_to_done_and_tells(store: Store) -> None:
    job = store.create_job("ingest", "team/math@1", {"repo": "team/math"}, repo="team/math")
    token = store.claim(job.id)
    assert token is not None
    store.progress(job.id, token, 3, 10)
    store.progress(job.id, token, 7, 10)
    assert (job_of(store, job.id).done, job_of(store, job.id).total) == (7, 10)
    store.finish(job.id, token, {"kind": "delta"})
    ended = job_of(store, job.id)
    assert (ended.state, ended.result, ended.attempts) == ("done", {"kind": "delta"}, 1)
    assert kinds(store, job.id) == ["queued", "running", "progress", "done"]
    assert store.claim(job.id) is None
    assert not ended.is_open


def test_an_open_job_is_not_made_twice(store: Store) -> None:
    first = store.create_job("ingest", "team/math@1", {}, repo="team/math")
    assert store.create_job("ingest", "team/math@1", {}, repo="team/math") == first
    assert store.create_job("ingest", "team/math@2", {}, repo="team/math") != first


def test_a_takeover_voids_the_lease_before(store: Store) -> None:
    job = store.create_job("ingest", "team/math@1", {}, repo="team/math")
    lost, held = store.claim(job.id), store.claim(job.id)
    assert lost is not None
    assert held is not None
    assert (store.holds(job.id, lost), store.holds(job.id, held)) == (False, True)
    for attempt in (
        lambda: store.progress(job.id, lost, 1, 2),
        lambda: store.finish(job.id, lost, {}),
        lambda: store.fail(job.id, lost, {"message": "no"}),
    ):
        with pytest.raises(LeaseLostError):
            attempt()
    store.finish(job.id, held, {"by": "second"})
    with pytest.raises(LeaseLostError):
        store.finish(job.id, held, {"by": "second again"})
    assert kinds(store, job.id).count("done") == 1


def test_what_waits_is_taken_up_once_when_nobody_is_to_be_taken_over(store: Store) -> None:
    ids = [store.create_job("ingest", f"a/{name}", {}).id for name in ("first", "second", "third")]
    assert store.queued_jobs("ingest", 2) == ids[:2]
    assert store.claim(ids[0], takeover=False)
    assert store.claim(ids[0], takeover=False) is None
    assert store.claim(ids[0])
    assert store.queued_jobs("ingest", 5) == ids[1:]
    assert store.queued_jobs("composition", 5) == []


def test_a_commit_that_need_not_last_is_seen_and_rolled_back_like_any(store: Store) -> None:
    here, absent = "1" * 64, "2" * 64
    owner = Token("1", "ci", frozenset({"write"}), frozenset({"ci"}), now())
    store.record_blob(here, 5)
    assert store.blob_size(here) == 5
    with pytest.raises(IntegrityError):
        store.promise_blobs([here, absent], owner)
    assert not store.may_read_blob(owner, here)


def test_a_requeue_voids_the_lease(store: Store) -> None:
    job = store.create_job("ingest", "team/math@1", {}, repo="team/math")
    token = store.claim(job.id)
    assert token is not None
    store.requeue(job.id)
    assert job_of(store, job.id).state == "queued"
    with pytest.raises(LeaseLostError):
        store.finish(job.id, token, {})


def test_events_continue_after_the_last_one_seen(store: Store) -> None:
    job = store.create_job("ingest", "team/math@1", {}, repo="team/math")
    token = store.claim(job.id)
    assert token is not None
    store.progress(job.id, token, 1, 4)
    seen = store.events_since(job.id)[-1].id
    store.progress(job.id, token, 2, 4)
    store.finish(job.id, token, {})
    later = store.events_since(job.id, seen)
    assert [event.kind for event in later] == ["progress", "done"]
    assert later[0].data == {"done": 2, "total": 4}
    assert [event.id for event in later] == sorted(event.id for event in later)


def test_a_composition_adds_up_its_shards_and_is_published_once(store: Store) -> None:
    composition = ask(store)
    assert store.claim(composition.job_id) is None, "its shards are not done"
    first = store.shards_of(composition.job_id)[0]
    token = store.claim(first.id)
    assert token is not None
    store.progress(first.id, token, 50, 100)
    parent = job_of(store, composition.job_id)
    assert (parent.state, parent.done, parent.total) == ("running", 50, 200)
    finished_shards(store, composition)
    lost, held = store.claim(composition.job_id), store.claim(composition.job_id)
    assert lost is not None
    assert held is not None
    files = [FileEntry("model.safetensors", "1" * 64, 7)]
    with pytest.raises(LeaseLostError):
        store.publish_composition(parent, lost, files, "compose")
    assert store.require_repo("soups/mix").head is None, "nothing of a lost lease stays"
    assert not store.blob_known("1" * 64)
    commit = store.publish_composition(parent, held, files, "compose")
    done = store.get_composition("soups/mix")
    assert done is not None
    assert (done.state, done.commit, commit.id) == ("done", "d" * 40, "d" * 40)
    assert [entry.path for entry in store.tree(commit)] == ["model.safetensors"]
    assert job_of(store, composition.job_id).done == 200


def test_the_same_digest_is_one_composition_until_it_fails(store: Store) -> None:
    first = ask(store)
    assert ask(store, "soups/other") == first
    store.request_cancel(first.job_id)
    again = ask(store)
    assert again.id != first.id
    assert store.composition_with_digest("d" * 64) == again


def test_a_failed_shard_ends_its_family_with_its_cause(store: Store) -> None:
    composition = ask(store, shards=3)
    failing, running, waiting = store.shards_of(composition.job_id)
    token, other = store.claim(failing.id), store.claim(running.id)
    assert token is not None
    assert other is not None
    store.fail(failing.id, token, {"message": "tensor 'x' is not finite"})
    ended = store.get_composition(composition.id)
    assert ended is not None
    assert (ended.state, ended.error) == ("failed", {"message": "tensor 'x' is not finite"})
    states = [job_of(store, job_id).state for job_id in (composition.job_id, failing.id, running.id, waiting.id)]
    assert states == ["failed", "failed", "cancelled", "cancelled"]
    with pytest.raises(LeaseLostError):
        store.finish(running.id, other, {})
    assert kinds(store, composition.job_id)[-1] == "failed"


@pytest.mark.parametrize("member", ["finaliser", "shard"])
def test_a_cancel_ends_the_whole_family_at_once(store: Store, member: str) -> None:
    composition = ask(store)
    shards = store.shards_of(composition.job_id)
    token = store.claim(shards[0].id)
    assert token is not None
    cancelled = store.request_cancel(composition.job_id if member == "finaliser" else shards[1].id)
    assert set(cancelled) == {composition.job_id, *(shard.id for shard in shards)}
    assert not store.holds(shards[0].id, token)
    ended = store.get_composition(composition.id)
    assert ended is not None
    assert ended.state == "cancelled"
    assert store.request_cancel(composition.job_id) == []
    assert store.due_jobs() == []


def test_a_composition_does_not_take_the_name_of_a_base(store: Store) -> None:
    repo = store.create_repo("soups", "mix")
    store.commit(repo, {"a": keep(store, b"1")}, "one", "me")
    with pytest.raises(ConflictError, match="files"):
        ask(store)
    assert store.due_jobs() == []


def test_the_third_crash_fails_the_job(store: Store) -> None:
    job = store.create_job("ingest", "team/math@1", {}, repo="team/math")
    for _ in range(MOST_CRASHES):
        assert store.claim(job.id) is not None
        store.count_crash(job.id, "the job's process died of signal 9")
    ended = job_of(store, job.id)
    assert ended.state == "failed"
    assert ended.error is not None
    assert "signal 9" in ended.error["message"]


def test_what_runs_past_the_deadline_fails(store: Store) -> None:
    job = store.create_job("ingest", "team/math@1", {}, repo="team/math")
    token = store.claim(job.id)
    assert token is not None
    assert store.fail_overdue(60) == []
    assert store.fail_overdue(-1) == [job.id]
    assert job_of(store, job.id).state == "failed"


def test_jobs_are_seen_by_those_who_may_read_their_repo(store: Store) -> None:
    store.create_repo("team", "secret", private=True)
    hidden = store.create_job("ingest", "team/secret@1", {}, repo="team/secret")
    shown = ask(store).job_id
    ours, _ = store.create_token("ours", {"read"}, {"team"})
    assert [job.id for job in store.list_jobs(None).items] == [shown]
    assert {job.id for job in store.list_jobs(ours).items} == {shown, hidden.id}
    assert not store.may_see_job(None, hidden.id)
    assert store.may_see_job(EVERYBODY, hidden.id)
    assert [job.id for job in store.list_jobs(EVERYBODY, kind="ingest").items] == [hidden.id]


def test_pages_of_jobs_add_up(store: Store) -> None:
    made = {store.create_job("ingest", f"r@{number}", {}, repo="r").id for number in range(5)}
    first = store.list_jobs(EVERYBODY, limit=3)
    rest = store.list_jobs(EVERYBODY, limit=3, cursor=first.next_cursor)
    assert {job.id for job in first.items + rest.items} == made


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, "1.5-x"])
def test_a_made_up_cursor_is_refused(store: Store, cursor: str) -> None:
    with pytest.raises(InputError, match="cursor"):
        store.list_jobs(EVERYBODY, cursor=cursor)


def test_deleting_a_repo_cancels_its_jobs_and_forgets_its_compositions(store: Store) -> None:
    composition = ask(store)
    store.delete_repo(store.require_repo("soups/mix"))
    assert store.get_composition(composition.id) is None
    assert job_of(store, composition.job_id).state == "cancelled"
    assert ask(store).id != composition.id


def test_a_finished_composition_is_adopted_under_another_name(store: Store) -> None:
    composition = ask(store)
    finished_shards(store, composition)
    token = store.claim(composition.job_id)
    assert token is not None
    files = [FileEntry("model.safetensors", "1" * 64, 7)]
    store.publish_composition(job_of(store, composition.job_id), token, files, "compose")
    done = store.composition_with_digest("d" * 64)
    assert done is not None
    commit = store.adopt_composition(done, "soups/other", private=False, author="you")
    assert store.adopt_composition(done, "soups/other", private=False, author="you") == commit
    assert store.tree(commit) == files
    adopted = store.adopted_by(store.require_repo("soups/other"))
    assert adopted is not None
    assert adopted.id == composition.id


def test_what_is_not_there_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.claim("nothing")
    assert store.get_job("nothing") is None
    assert store.get_composition("nothing") is None
    assert store.count_jobs() == {}
