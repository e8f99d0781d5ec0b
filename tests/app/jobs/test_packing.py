"""Full fine-tunes packed against their base: smaller, the same bytes, and safe against whoever dies or is quicker."""

import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from app.jobs.packing import pack_files
from app.jobs.perform import Work, do, take
from app.jobs.reconcile import Reconciler
from app.settings import Settings
from app.store.records import FileEntry, Job
from tests.app.jobs.kitchen import Kitchen, kitchen
from tests.app.jobs.test_garbage import collect, named, on_the_disk

ELEMENTS = 1 << 17
TENSORS = 3
AT_ONCE = -1.0


def weights(seed: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {f"layer.{i}.weight": draw.standard_normal((128, ELEMENTS // 128), dtype=np.float32) for i in range(TENSORS)}


def moved(base: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """All but the first tensor, a little."""
    draw = np.random.default_rng(seed)
    first, *others = base.items()
    return dict([first]) | {
        name: values + np.float32(1e-4) * draw.standard_normal(values.shape, dtype=np.float32)
        for name, values in others
    }


def commit(place: Kitchen, name: str, tensors: dict[str, np.ndarray], *, private: bool = False) -> tuple[str, Job]:
    """Commit a checkpoint; the blob of its weights, and the job that is to look at it."""
    content = save(tensors, {"format": "pt"})
    repo = place.store.ensure_repo(*name.split("/"), private=private)
    changes: dict[str, FileEntry | None] = {}
    for path, data in {"model.safetensors": content, "config.json": b'{"model_type": "llama"}'}.items():
        changes[path] = FileEntry(path, *place.blobs.put_bytes(data))
        place.store.record_blob(changes[path].sha256, len(data))
    made = place.store.commit(repo, changes, "publish", "me")
    return sha256(content).hexdigest(), place.jobs.submit_ingest(repo, made)


def publish(place: Kitchen, name: str, tensors: dict[str, np.ndarray], *, private: bool = False) -> str:
    """Commit a checkpoint and look at it; the blob of its weights."""
    digest, job = commit(place, name, tensors, private=private)
    perform(place, job)
    return digest


def work_at(place: Kitchen, job: Job) -> Work:
    work = take(place.settings, place.store, job.id)
    assert work is not None
    return work


def perform(place: Kitchen, job: Job) -> Job:
    do(work_at(place, job))
    done = place.job(job.id)
    assert done.state == "done", done.error
    return done


def waiting(place: Kitchen) -> list[Job]:
    return [job for job in place.store.due_jobs() if job.kind == "pack"]


def pack_all(place: Kitchen) -> list[Job]:
    return [perform(place, job) for job in waiting(place)]


def drop_all(place: Kitchen) -> set[str]:
    shelf = place.blobs.packing_shelf
    assert shelf is not None
    return {
        found
        for found in place.store.whole_packings()
        if place.store.drop_plain(found, lambda digest: shelf.drop_plain(digest, AT_ONCE))
    }


def content_of(place: Kitchen, digest: str) -> str:
    """The hash of what is read of a blob by ranges."""
    whole = sha256()
    for piece in place.blobs.read(digest):
        whole.update(piece)
    return whole.hexdigest()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Kitchen]:
    with kitchen(tmp_path / "data") as ready:
        yield ready


@pytest.fixture
def family(place: Kitchen) -> tuple[str, str]:
    """The blobs of a base and of a fine-tune of it, whose packing is queued."""
    base = weights(0)
    return publish(place, "big/base", base), publish(place, "big/fine", moved(base, 1))


def test_a_fine_tune_is_packed_against_its_base(place: Kitchen, family: tuple[str, str]) -> None:
    base, fine = family
    [job] = pack_all(place)
    figures = job.result["packed"]["model.safetensors"]
    assert figures["by_kind"]["same"] == ELEMENTS * 4
    assert figures["stored_bytes"] < 0.55 * figures["bytes"]
    assert place.store.origins_of(fine) == {base}
    assert drop_all(place) == {fine}
    assert drop_all(place) == set()
    assert {fine, f"{fine}.packed"} & on_the_disk(place) == {f"{fine}.packed"}
    assert content_of(place, fine) == fine


def built(place: Kitchen, name: str, scale: float) -> dict[str, str]:
    """A composition as workers would build it; its files."""
    composition = place.compose(name, scale)
    for job in (*place.store.shards_of(composition.job_id), place.job(composition.job_id)):
        perform(place, job)
    return {entry.path: entry.sha256 for entry in place.store.tree(place.store.head(place.store.require_repo(name)))}


def test_a_worker_packs_what_it_has_looked_at(place: Kitchen) -> None:
    base = weights(0)
    publish(place, "big/base", base)
    place.start("worker")
    commit(place, "big/fine", moved(base, 1))
    place.wait(place.store.whole_packings)


def test_the_reconciler_removes_bytes_that_nobody_has_read_for_a_while(place: Kitchen, family: tuple[str, str]) -> None:
    fine = family[1]
    pack_all(place)
    reconciler = Reconciler(place.settings, place.store, place.redis)
    assert reconciler.drop_plain() == [], "it was read a moment ago"
    path = place.blobs.local_path(fine)
    with path.open("rb") as reading:
        os.utime(path, (path.stat().st_mtime - 1000,) * 2)
        assert reconciler.drop_plain() == [fine]
        assert file_digest(reading, "sha256").hexdigest() == fine, "who has it open reads on"
    assert reconciler.drop_plain() == []


def test_a_composition_of_a_packed_fine_tune_has_the_same_bytes(place: Kitchen) -> None:
    base = weights(0)
    for number, name in enumerate(("org/base", "team/a", "team/b")):
        publish(place, name, moved(base, number) if number else base)
    plain = built(place, "soups/plain", 1.0)
    place.store.delete_repo(place.store.require_repo("soups/plain"))
    pack_all(place)
    assert len(drop_all(place)) == 2
    assert built(place, "soups/packed", 1.0) == plain


def test_the_bytes_stay_while_a_build_is_to_read_them(place: Kitchen, family: tuple[str, str]) -> None:
    fine = family[1]
    pack_all(place)
    recipe, digest = {"recipe": "of the fine-tune"}, "0" * 64
    build = place.store.create_composition("soups/mix", recipe, digest, {}, [1], inputs=[fine])
    assert drop_all(place) == set()
    place.jobs.cancel(build.job_id)
    assert drop_all(place) == {fine}


def test_deleting_the_base_keeps_what_the_fine_tune_needs_of_it(place: Kitchen, family: tuple[str, str]) -> None:
    base, fine = family
    pack_all(place)
    drop_all(place)
    place.store.delete_repo(place.store.require_repo("big/base"))
    collect(place)
    assert content_of(place, fine) == fine
    place.store.delete_repo(place.store.require_repo("big/fine"))
    collect(place)
    assert base in on_the_disk(place), "its turn comes when what leant on it is gone"
    collect(place)
    assert on_the_disk(place) == named(place)


def test_equal_tensors_of_other_repos_are_stored_once(place: Kitchen) -> None:
    """Of models with nothing in common but one tensor; under another name, and where that is packed itself too."""
    base, other = weights(0), weights(5)
    publish(place, "big/base", base)
    fine = publish(place, "big/fine", moved(base, 1))
    pack_all(place)
    shared = {**other, "elsewhere.weight": moved(base, 1)["layer.2.weight"], "renamed.weight": base["layer.0.weight"]}
    digest = publish(place, "other/model", shared)
    [job] = pack_all(place)
    assert job.result["packed"]["model.safetensors"]["by_kind"]["same"] == 2 * ELEMENTS * 4
    assert place.store.origins_of(digest) == {sha256(save(base, {"format": "pt"})).hexdigest(), fine}
    assert {digest, fine} == drop_all(place)
    assert content_of(place, digest) == digest


def test_a_fine_tune_of_a_fine_tune_leans_on_the_first_base(place: Kitchen, family: tuple[str, str]) -> None:
    base, fine = family
    pack_all(place)
    second = moved(moved(weights(0), 1), 2)
    digest = publish(place, "big/second", {**second, "layer.1.weight": moved(weights(0), 1)["layer.1.weight"]})
    pack_all(place)
    assert place.store.origins_of(digest) == {base, fine}
    assert {fine, digest} == drop_all(place)
    assert content_of(place, digest) == digest
    assert content_of(place, base) == base


def test_what_is_private_to_others_is_no_origin(place: Kitchen) -> None:
    base = weights(0)
    publish(place, "secret/base", base, private=True)
    publish(place, "open/fine", moved(base, 1))
    pack_all(place)
    assert place.store.whole_packings() == []
    mine = publish(place, "secret/fine", moved(base, 2), private=True)
    pack_all(place)
    assert place.store.whole_packings() == [mine]


def test_an_origin_is_never_packed_against_what_leans_on_it(place: Kitchen, family: tuple[str, str]) -> None:
    base, _ = family
    pack_all(place)
    drop_all(place)
    repo = place.store.require_repo("big/base")
    again = place.jobs.submit_packing("big/base", str(repo.head))
    assert perform(place, again).result == {"packed": {}}
    assert place.store.origins_of(base) == frozenset()


def test_nothing_is_packed_where_the_operator_says_so(place: Kitchen) -> None:
    place.settings = place.settings.model_copy(update={"pack": False})
    base = weights(0)
    publish(place, "big/base", base)
    publish(place, "big/fine", moved(base, 1))
    assert waiting(place) == []


def test_of_two_that_pack_the_same_one_is_late(place: Kitchen, family: tuple[str, str]) -> None:
    fine = family[1]
    [job] = waiting(place)
    late = work_at(place, job)
    other = place.jobs.submit_packing(str(job.payload["repo"]), str(job.payload["commit"]))
    perform(place, other)
    drop_all(place)
    pack_files(late)
    assert place.job(job.id).result == {"packed": {}}
    assert content_of(place, fine) == fine


def killed_at(step: str, settings: Settings, job: Job) -> None:
    command = [sys.executable, "-m", "tests.app.jobs.dying_packing", step, job.id]
    environment = {**os.environ, **settings.environment()}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        process.kill()


@pytest.mark.parametrize("step", ["written", "installed", "recorded"])
def test_a_packing_killed_half_way_loses_nothing_and_is_done_again(
    step: str, place: Kitchen, family: tuple[str, str]
) -> None:
    base, fine = family
    [job] = waiting(place)
    killed_at(step, place.settings, job)
    assert fine in on_the_disk(place)
    assert (drop_all(place) == {fine}) == (step == "recorded")
    collect(place)
    assert content_of(place, fine) == fine
    place.store.requeue(job.id)
    pack_all(place)
    drop_all(place)
    assert on_the_disk(place) == named(place) - {fine} | {f"{fine}.packed"}
    assert place.store.origins_of(fine) == {base}
    assert content_of(place, fine) == fine
    assert place.staged() == []


def test_bytes_removed_without_a_record_of_it_are_found_to_be_gone(place: Kitchen, family: tuple[str, str]) -> None:
    fine = family[1]
    [job] = pack_all(place)
    killed_at("dropped", place.settings, job)
    assert fine not in on_the_disk(place)
    assert content_of(place, fine) == fine
    assert drop_all(place) == {fine}
    assert place.store.whole_packings() == []


def test_a_packed_fine_tune_killed_half_way_goes_whole_with_its_repo(place: Kitchen, family: tuple[str, str]) -> None:
    [job] = waiting(place)
    killed_at("installed", place.settings, job)
    for name in ("big/fine", "big/base"):
        place.store.delete_repo(place.store.require_repo(name))
    collect(place)
    assert on_the_disk(place) == named(place)
