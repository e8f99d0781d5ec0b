"""Looking at a commit: what its files amount to, kept as a record that listings and searches use."""

from app.jobs.perform import Work, error_document
from app.store.records import EVERYBODY, DeltaRecord, DeltaState
from app.store.resolve import StoreResolve
from app.store.subject import new_id, now
from merge_core.errors import FileError
from merge_core.formats import Inspection, inspect

UNREADABLE = "unreadable"


def ingest(work: Work) -> None:
    """Record the commit as a base, a delta, or plain files with the reason why they are no more than that."""
    repo, commit = str(work.job.payload["repo"]), str(work.job.payload["commit"])
    source = StoreResolve(work.store, work.blobs, EVERYBODY)(f"{repo}@{commit}")
    try:
        found = inspect(source.files)
    except FileError as error:
        found = Inspection("files", UNREADABLE, str(error), error_document(error))
    work.store.put_delta(_record(repo, commit, found))
    work.store.finish(work.job.id, work.lease.token, {"kind": found.kind, "format": found.format})


def _record(repo: str, commit: str, found: Inspection) -> DeltaRecord:
    state: DeltaState = "ok" if found.kind != "files" else "refused" if found.format == UNREADABLE else "files"
    return DeltaRecord(
        id=new_id(),
        repo=repo,
        commit=commit,
        base=found.summary.get("declared_base"),
        kind=found.kind,
        format=found.format,
        state=state,
        reason=found.reason,
        summary=found.summary,
        created_at=now(),
    )
