"""Building a composition: a job for each shard, then one that publishes what they made."""

from functools import partial
from pathlib import Path

from app.jobs.perform import Work
from app.jobs.staging import close_attempt, open_attempt
from app.memory import PROCESS_BYTES, threads_within
from app.store.records import EVERYBODY, Composition, FileEntry, Ready
from app.store.resolve import PlanningResolve, StoreResolve
from app.store.surveys import KeptSurveys
from app.store.uploads import Announce
from merge_core.errors import ConflictError, NotFoundError
from merge_core.execute import execute
from merge_core.growth import Growth
from merge_core.outputs.lora_sink import error_report, read_errors
from merge_core.plan import Plan, make_plan
from merge_core.recipe import Recipe


def build_shard(work: Work) -> None:
    """One shard, as a blob. Nothing is written where it could be taken for a finished file."""
    composition = _composition(work)
    plan = _plan(composition, work, StoreResolve(work.store, work.blobs, EVERYBODY))
    shard = int(work.job.payload["shard"])
    folder = open_attempt(work.settings, work.job.id)
    growth = Growth([plan.shards[shard]]) if plan.is_foreseen else None
    ready = partial(_ready, growth, work, folder / plan.shards[shard].name)
    try:
        [path] = execute(
            plan,
            folder,
            threads=threads_within(plan, work.settings.threads, work.settings.build_bytes),
            shards=[shard],
            durable=False,  # the blob store syncs what it takes
            surveys=KeptSurveys(work.store, plan.marks.values()),
            growth=growth,
            on_progress=lambda done, total: work.lease.progress(done, total, ready()),
            cancelled=work.lease.lost,
        )
        if growth is not None:
            work.lease.tell(1, 1, ready())  # hashing takes a while, and tells nothing
        found = {"relative_errors": read_errors(folder)} if plan.recipe.output.kind == "lora" else {}
        sha256, size = work.blobs.put_file(path, announce=_announcing(work))
    finally:
        close_attempt(work.settings, work.job.id)
    work.store.record_blob(sha256, size)
    result = {"path": plan.shards[shard].name, "sha256": sha256, "size": size, **found}
    work.store.finish(work.job.id, work.lease.token, result)


def finish_composition(work: Work) -> None:
    """Shards and side files become one commit of the composition's repo."""
    composition = _composition(work)
    plan = _plan(composition, work, PlanningResolve(work.store, work.blobs, EVERYBODY))
    shards = [shard.result or {} for shard in work.store.shards_of(work.job.id)]
    files = [FileEntry(result["path"], result["sha256"], result["size"]) for result in shards]
    errors = {name: error for result in shards for name, error in result.get("relative_errors", {}).items()}
    side_files = {**plan.side_files, **(error_report(errors) if plan.recipe.output.kind == "lora" else {})}
    files += [FileEntry(path, *work.blobs.put_bytes(data, _announcing(work))) for path, data in side_files.items()]
    work.store.publish_composition(work.job, work.lease.token, files, f"Compose {composition.digest[:12]}")


def _ready(growth: Growth | None, work: Work, path: Path) -> Ready | None:
    """What can be read of the shard being written to `path`, which is its name once it is complete."""
    place = path.relative_to(work.settings.data).as_posix()
    return None if growth is None else Ready(place, growth.ready(path.name))


def _announcing(work: Work) -> Announce:
    return partial(work.store.announce_blob, job_id=work.job.id)


def _composition(work: Work) -> Composition:
    composition = work.store.get_composition(work.job.subject_id)
    if composition is None:
        raise NotFoundError("no such composition", where="composition", found=work.job.subject_id)
    return composition


def _plan(composition: Composition, work: Work, resolve: StoreResolve) -> Plan:
    """The plan anew, from the resolved recipe: as it is cheap, none is kept. It must be the one that was accepted."""
    plan = make_plan(Recipe.parse(composition.recipe), resolve, work.settings.build_bytes, PROCESS_BYTES)
    if plan.digest != composition.digest:
        raise ConflictError(
            "the plan is not the one that was accepted: its inputs or the engine have changed since",
            where="digest",
            found=plan.digest,
            expected=composition.digest,
        )
    return plan
