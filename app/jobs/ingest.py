"""Looking at a commit: what its files amount to, kept as a record that listings and searches use."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from app.jobs.hashing import hash_tensors
from app.jobs.known_bases import Found, KnownBases, digest_of, hashes_of, without_unchanged
from app.jobs.packing import submit_packing
from app.jobs.perform import Work, error_document
from app.jobs.queue import Jobs
from app.store.records import EVERYBODY, DeltaRecord, DeltaState, KnownBase, Repo, StoredHash
from app.store.resolve import StoreResolve
from app.store.subject import new_id, now
from merge_core.delta_facts import Measuring, TensorFacts, in_sum, stands_alone
from merge_core.deltas import Delta
from merge_core.errors import FileError, NotFoundError
from merge_core.fit import Fit
from merge_core.formats import Artefact, Inspection, check_file, inspect, read
from merge_core.formats.model_card import base_in_card
from merge_core.orientation import model_type
from merge_core.sources import Source
from merge_core.stored import StoredTensor

Measured = tuple[dict[str, Any], list[dict[str, Any]]]
"""The sums over what is touched, and a row for each tensor."""

UNREADABLE = "unreadable"
MOST_AGAIN = 2000
"""Deltas without a base that are looked at again when a base arrives, the newest."""
READABLE_BYTES = 1 << 30
"""A larger base is not read for the norms of what is put on it: it may lie in an object store."""
TOLD = tuple(field.name for field in fields(TensorFacts))
CONFIGS = ("config.json", "diff.json")
"""Endings of the files that say how an artefact's tensors are meant."""


@dataclass(frozen=True, slots=True)
class Look:
    """One commit being looked at."""

    work: Work
    repo: Repo
    source: Source
    record: DeltaRecord

    def keep(self, found: Found, facts: Mapping[str, Any], by_tensor: list[dict[str, Any]]) -> None:
        """Put the record with what was found of its base."""
        base, named = found.base, {"base_is_named": found.is_named, "candidates": list(found.candidates)}
        state: DeltaState = "refused" if found.reason else self.record.state
        record = replace(
            self.record,
            state=state,
            reason=found.reason or self.record.reason,
            base_repo=None if base is None else base.repo,
            base_commit=None if base is None else base.commit,
            facts={**named, **facts},
        )
        self.work.store.put_delta(record, by_tensor)


def ingest(work: Work) -> None:
    """Record the commit as a base, a delta, or plain files with the reason why they are no more than that."""
    repo = work.store.require_repo(str(work.job.payload["repo"]))
    commit = work.store.require_commit(repo, str(work.job.payload["commit"]))
    source = StoreResolve(work.store, work.blobs, EVERYBODY).source(repo, commit)
    try:
        _check(source)
        found = inspect(source.files)
        record = _record(work, repo, found, _declared(work, repo, found, source))
        look = Look(work, repo, source, record)
        _keep(look, found.artefact)
    except FileError as error:
        found = Inspection("files", UNREADABLE, str(error), error_document(error))
        work.store.put_delta(_record(work, repo, found, None))
    work.store.finish(work.job.id, work.lease.token, {"kind": found.kind, "format": found.format})


def _check(source: Source) -> None:
    """Raises FileError for content that no recipe may use: pushes by the Hub's protocol come in as they are."""
    for path, file in sorted(source.files.items()):
        check_file(path, file)


def _declared(work: Work, repo: Repo, found: Inspection, source: Source) -> str | None:
    """The base that a composition was built on, or else the one that the files name."""
    composition = work.store.get_composition(repo.full_name) if repo.kind == "composition" else None
    is_built_so = composition is not None and composition.commit == work.job.payload["commit"]
    built_on = composition.recipe.get("base") if composition is not None and is_built_so else None
    in_files = found.summary.get("declared_base") or base_in_card(source.files)
    return built_on if isinstance(built_on, str) else in_files


def _record(work: Work, repo: Repo, found: Inspection, declared: str | None) -> DeltaRecord:
    """The record, with the id and the time of the one that an earlier look has left."""
    commit = str(work.job.payload["commit"])
    earlier = work.store.delta_of(repo, commit)
    state: DeltaState = "ok" if found.kind != "files" else "refused" if found.format == UNREADABLE else "files"
    return DeltaRecord(
        id=new_id() if earlier is None else earlier.id,
        repo=repo.full_name,
        commit=commit,
        base=None if found.kind == "files" else declared,
        kind=found.kind,
        format=found.format,
        state=state,
        reason=found.reason,
        summary=found.summary,
        created_at=now() if earlier is None else earlier.created_at,
    )


def _keep(look: Look, artefact: Artefact | None) -> None:
    if artefact is None:
        look.work.store.put_delta(look.record)
    elif artefact.complete:
        look.work.store.put_delta(look.record)  # hashing takes a while
        _keep_checkpoint(look, artefact)
        submit_packing(look.work, look.repo, look.record.commit)
        _look_again(look.work, look.record.repo)
    else:
        _keep_delta(look, artefact)


def _keep_delta(look: Look, artefact: Artefact) -> None:
    try:
        _keep_delta_of(look, artefact, _known(look).of_delta(artefact, look.record.base))
    except NotFoundError:  # the base has been deleted in these milliseconds
        _keep_delta_of(look, artefact, Found())


def _keep_delta_of(look: Look, artefact: Artefact, found: Found) -> None:
    held = found.fit or Fit(artefact.deltas, tuple(artefact.new_tensors), ())
    facts, rows = _measured(look, found.base, held.deltas)
    look.keep(found, {**facts, "new_tensors": len(held.new), "files": _files(look.source, artefact)}, rows)


def _keep_checkpoint(look: Look, artefact: Artefact) -> None:
    """The hashes of its tensors; and what it changed, where it is a fine-tune of a known base."""
    tensors = hash_tensors(look.work, look.source, artefact.tensors)
    look.work.store.put_base(look.record.repo, look.record.commit, tensors, _model_type(look.source))
    try:
        found = _known(look).of_checkpoint(artefact, look.record.base, tensors)
        facts, rows = _changed(look, found, tensors)
    except NotFoundError:  # the base has been deleted in these milliseconds
        found, facts, rows = Found(), {}, []
    look.keep(found, {**facts, "files": _files(look.source, artefact)}, rows)


def _changed(look: Look, found: Found, tensors: list[StoredHash]) -> Measured:
    """What a full checkpoint says of its base, without the tensors that it has as they were."""
    if found.base is None or found.fit is None:
        return {}, []
    own = {tensor.name: tensor for tensor in tensors}
    changed = without_unchanged(found.fit, hashes_of(look.work.store, found.base), own)
    facts, rows = _measured(look, found.base, changed.deltas)
    unchanged = len(found.fit.deltas) - len(changed.deltas)
    return facts | {"new_tensors": len(changed.new), "unchanged_tensors": unchanged}, rows


def _known(look: Look) -> KnownBases:
    return KnownBases(look.work, look.repo)


def _measured(look: Look, base: KnownBase | None, deltas: Mapping[str, Delta]) -> Measured:
    """The sums over what is touched, and a row for each tensor with the hash of the base's."""
    needs_base = not all(stands_alone(delta) for delta in deltas.values())
    measuring = Measuring(_readable(look, base) if base is not None and needs_base else {})
    found = [measuring.facts(name, delta) for name, delta in deltas.items()]
    known = {} if base is None else hashes_of(look.work.store, base)
    touched = {facts.name: known[facts.name] for facts in found if facts.name in known}
    rows = [_row(facts, touched.get(facts.name)) for facts in found]
    of_base: dict[str, Any] = {"dense_bytes": None, "base_sha256": None}
    if base is not None:
        dense = sum(tensor.length for tensor in touched.values())
        of_base = {"dense_bytes": dense, "base_sha256": digest_of(touched.values())}
    return in_sum(found) | of_base, rows


def _readable(look: Look, base: KnownBase) -> Mapping[str, StoredTensor]:
    """The base's tensors, where reading some of them is no great work."""
    if sum(tensor.length for tensor in hashes_of(look.work.store, base).values()) > READABLE_BYTES:
        return {}
    return read(StoreResolve(look.work.store, look.work.blobs, EVERYBODY)(base.name).files).tensors


def _row(facts: TensorFacts, base: StoredHash | None) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(facts, name) for name in TOLD}
    return row | {"shape": list(facts.shape), "base_sha256": None if base is None else base.sha256}


def _files(source: Source, artefact: Artefact) -> list[dict[str, Any]]:
    """The files that the artefact was read from, with their hashes."""
    hashes = source.hashes or {}
    read_from = {stored.file for stored in artefact.tensors.values()}
    paths = sorted(path for path in hashes if path in read_from or path.endswith(CONFIGS))
    return [{"path": path, "sha256": hashes[path], "bytes": source.files[path].stat().st_size} for path in paths]


def _model_type(source: Source) -> str | None:
    found = model_type(source)
    return found if found is not None and len(found) <= 200 and found.isprintable() else None


def _look_again(work: Work, base: str) -> None:
    """Queue a look at deltas that may have waited for this base; one more that fits would decide nothing."""
    last = _last_part(base)
    waiting = [
        record
        for record in work.store.deltas_without(base, MOST_AGAIN)
        if _last_part(record.base) == last or not (record.base or record.facts.get("candidates"))
    ]
    queue = Jobs(work.settings, work.store) if waiting else None
    for record in waiting:
        repo = work.store.get_repo(*record.repo.split("/"))
        if queue is not None and repo is not None and repo.head == record.commit:
            queue.submit_ingest(repo, work.store.head(repo, record.commit))


def _last_part(name: str | None) -> str:
    return (name or "").partition("@")[0].rstrip("/").rpartition("/")[2].casefold()
