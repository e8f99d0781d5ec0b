"""Taking a base from the upstream hub: pinned to a commit, every file checked, going on where it broke off."""

from collections.abc import Iterator
from functools import partial
from pathlib import PurePosixPath

from app.jobs.perform import Work
from app.names import check_path
from app.store.git_hashes import git_oid
from app.store.records import FileEntry
from app.store.uploads import Announce, Upload
from app.upstream import Elsewhere, Listed, Upstream, UpstreamError
from merge_core.errors import CancelledError, CapacityError, FileError

MOST_TRIES = 8
"""In a row, without one byte more."""
LARGEST_UNHASHED = 64 << 20
"""A file without a sha256 is read into memory, to be hashed as git does."""
OTHER_FORMS = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".tflite", ".gguf", ".pb", ".mlmodel"}
)
"""Endings of files that hold the weights once more where there are safetensors."""


def pull_repo(work: Work) -> None:
    """Every file of the revision that is wanted here, as one commit with the upstream's own id."""
    repo = work.store.require_repo(str(work.job.payload["repo"]))
    with Upstream(work.settings) as upstream:
        listed = upstream.describe(repo.full_name, str(work.job.payload["revision"]))
        wanted = [file for file in listed.files if _is_wanted(file, listed)]
        pull = _Pull(work, upstream, repo.full_name, listed.commit, sum(file.size for file in wanted))
        entries = [pull.entry(file) for file in wanted]
    left = sorted({file.path for file in listed.files} - {entry.path for entry in entries})
    work.store.publish_pulled(work.job, work.lease.token, entries, listed.commit, upstream.url, left)


def _is_wanted(file: Elsewhere, listed: Listed) -> bool:
    """All but what holds the same weights in another form."""
    has_safetensors = any(other.path.endswith(".safetensors") for other in listed.files)
    return not (has_safetensors and PurePosixPath(file.path).suffix.lower() in OTHER_FORMS)


class _Pull:
    """One revision on its way."""

    def __init__(self, work: Work, upstream: Upstream, repo: str, commit: str, total: int) -> None:
        self._work = work
        self._upstream = upstream
        self._repo = repo
        self._commit = commit
        self._done, self._total = 0, total

    def entry(self, file: Elsewhere) -> FileEntry:
        """The file as a blob: one that is here already is not sent again."""
        path = check_path(file.path, "a path of the upstream")
        if file.size > self._work.settings.max_file_bytes:
            expected = f"at most {self._work.settings.max_file_bytes} bytes"
            raise CapacityError("a file of the upstream is too large", where=path, found=file.size, expected=expected)
        sha256 = self._small(file) if file.sha256 is None else self._large(file, file.sha256)
        self._done += file.size
        self._tell(0)
        return FileEntry(path, sha256, file.size)

    def _large(self, file: Elsewhere, sha256: str) -> str:
        self._announce(sha256, file.size)
        if self._work.store.blob_size(sha256) != file.size:
            tries, received = 0, -1
            while not self._added(file, sha256):
                here = self._work.blobs.received(self._owner, sha256)
                tries, received = (tries + 1 if here == received else 0), here
                if tries >= MOST_TRIES:
                    raise UpstreamError("the upstream keeps breaking off", where=file.path, found=f"{here} bytes")
            self._work.store.record_blob(sha256, file.size)
        return sha256

    def _added(self, file: Elsewhere, sha256: str) -> bool:
        """One try to fetch what is missing; False when it broke off, and what came is kept."""
        with self._work.blobs.resume_upload(self._owner, sha256, file.size) as upload:
            try:
                if not upload.complete:
                    self._pour(file, upload)
            except UpstreamError:
                return False
            if not upload.complete:
                return False
            upload.finish(announce=self._announce)
            return True

    def _pour(self, file: Elsewhere, upload: Upload) -> None:
        with self._upstream.reading(self._repo, self._commit, file, upload.received) as blocks:
            for block in self._watched(blocks, upload.received):
                upload.write(block)

    def _small(self, file: Elsewhere) -> str:
        """A file that the upstream keeps in git: small enough to be hashed in memory."""
        if file.size > LARGEST_UNHASHED:
            raise FileError("a large file without a sha256", where=file.path, found=f"{file.size} bytes")
        content = bytearray()
        with self._upstream.reading(self._repo, self._commit, file, 0) as blocks:
            for block in self._watched(blocks, 0):
                content += block
                if len(content) > file.size:
                    break
        if len(content) != file.size or (file.oid is not None and git_oid(bytes(content)) != file.oid):
            found = f"{len(content)} bytes with the hash {git_oid(bytes(content))}"
            raise FileError("not what the upstream listed", where=file.path, found=found, expected=file.oid)
        sha256, size = self._work.blobs.put_bytes(bytes(content), self._announce)
        self._work.store.record_blob(sha256, size)
        return sha256

    def _watched(self, blocks: Iterator[bytes], received: int) -> Iterator[bytes]:
        """The blocks, while the job is ours; progress is told on the way."""
        for block in blocks:
            if self._work.lease.lost():
                raise CancelledError("the pull was cancelled")
            yield block
            received += len(block)
            self._tell(received)

    def _tell(self, received: int) -> None:
        self._work.lease.progress(min(self._done + received, self._total), self._total)

    @property
    def _owner(self) -> str:
        """Whose upload in parts it is: a later attempt, of this job or another, goes on with it."""
        return f"upstream {self._upstream.url}"

    @property
    def _announce(self) -> Announce:
        return partial(self._work.store.announce_blob, job_id=self._work.job.id)
