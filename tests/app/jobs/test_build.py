from pathlib import Path

import pytest
from safetensors.numpy import load_file

from app.store.records import FileEntry
from merge_core.execute import execute
from tests.app.jobs.kitchen import TENSORS, Kitchen


def files_of(place: Kitchen, name: str) -> dict[str, FileEntry]:
    repo = place.store.require_repo(name)
    return {entry.path: entry for entry in place.store.tree(place.store.head(repo))}


def test_shards_built_by_two_workers_are_the_bytes_that_one_run_writes(place: Kitchen, tmp_path: Path) -> None:
    place.start("worker")
    place.start("worker")
    done = place.wait_done(place.compose())
    assert done.commit == done.digest[:40]
    built = files_of(place, "soups/mix")
    alone = {path.name: path.read_bytes() for path in execute(place.plan(), tmp_path / "alone")}
    assert {name: place.blobs.local_path(built[name].sha256).read_bytes() for name in alone} == alone
    assert set(built) == set(alone)
    assert place.staged() == []
    finaliser = place.job(done.job_id)
    assert (finaliser.done, finaliser.state) == (finaliser.total, "done")
    for job in place.family(done):
        assert place.happened(job, "done") == 1


def test_a_built_composition_is_itself_a_base(place: Kitchen) -> None:
    place.start("worker")
    place.wait_done(place.compose())
    shards = [entry for path, entry in files_of(place, "soups/mix").items() if path.endswith(".safetensors")]
    assert len(shards) == TENSORS
    assert all(len(load_file(place.blobs.local_path(shard.sha256))) == 1 for shard in shards)
    repo = place.store.require_repo("soups/mix")
    job = place.jobs.submit_ingest(repo, place.store.head(repo))
    place.wait(lambda: not place.job(job.id).is_open)
    assert place.job(job.id).result == {"kind": "base", "format": "checkpoint"}
    assert place.store.require_repo("soups/mix").kind == "composition"


def test_a_commit_is_looked_at_and_a_broken_one_says_why(place: Kitchen) -> None:
    place.start("worker")
    repo = place.store.require_repo("team/a")
    job = place.jobs.submit_ingest(repo, place.store.head(repo))
    place.wait(lambda: not place.job(job.id).is_open)
    assert place.job(job.id).state == "done"
    assert place.store.require_repo("team/a").kind == "base"
    sha256, size = place.blobs.put_bytes(b"\xff" * 100)
    place.store.record_blob(sha256, size)
    broken = place.store.commit(repo, {"model.safetensors": FileEntry("", sha256, size)}, "break", "me")
    job = place.jobs.submit_ingest(repo, broken)
    place.wait(lambda: not place.job(job.id).is_open)
    found = place.store.delta_of(repo, broken.id)
    assert found is not None
    assert (found.kind, found.state) == ("files", "refused")
    assert found.reason is not None
    assert "model.safetensors" in found.reason


def test_inputs_that_are_gone_fail_the_composition_with_the_name(place: Kitchen) -> None:
    composition = place.compose()
    place.store.delete_repo(place.store.require_repo("team/b"))
    place.start("worker")
    place.wait(lambda: not place.composition(composition).is_open)
    ended = place.composition(composition)
    assert ended.state == "failed"
    assert ended.error is not None
    assert ended.error["type"] == "NotFoundError"
    assert "team/b" in str(ended.error)
    assert place.store.due_jobs() == []


@pytest.mark.parametrize("times", [2])
def test_submitting_twice_builds_once(place: Kitchen, times: int) -> None:
    composition = place.compose()
    for _ in range(times):
        place.jobs.submit_composition(composition)
    place.start("worker")
    done = place.wait_done(composition)
    assert all(job.attempts == 1 for job in place.family(done))
