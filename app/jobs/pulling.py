"""Taking a base from the upstream hub: pinned to a commit, every file checked, going on where it broke off."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import PurePosixPath
from typing import TypeVar

from app.jobs.lease import INTERVAL_S
from app.jobs.perform import Work
from app.names import check_path
from app.store.git_hashes import git_oid
from app.store.records import FileEntry, Repo
from app.store.uploads import Announce, Upload
from app.upstream import Elsewhere, Listed, Upstream, UpstreamError
from merge_core.errors import CancelledError, CapacityError, FileError

MOST_TRIES = 8
"""In a row, without one byte more."""
PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
"""After the first try that fails, twice as long after each that follows; and never longer."""
LARGEST_UNHASHED = 64 << 20
"""A file without a sha256 is read into memory, to be hashed as git does."""
OTHER_FORMS = frozenset(
    {".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".ot", ".tflite", ".gguf", ".pb", ".mlmodel"}
)
"""Endings of files that hold the weights once more where there are safetensors."""

Result = TypeVar("Result")


def pull_repo(work: Work) -> None:
    """Every file of the revision that is wanted here, as one commit with the upstream's own id."""
    repo = work.store.require_repo(str(work.job.payload["repo"]))
    with Upstream(work.settings) as upstream:
        revision = str(work.job.payload["revision"])
        listed = _patiently(work, lambda: upstream.describe(repo.full_name, revision))
        wanted = [file for file in listed.files if _is_wanted(file, listed)]
        pull = _Pull(work, upstream, repo, listed.commit, sum(file.size for file in wanted))
        entries = [pull.entry(file) for file in wanted]
    left = sorted({file.path for file in listed.files} - {entry.path for entry in entries})
    work.store.publish_pulled(work.job, work.lease.token, entries, listed.commit, upstream.url, left)


def _is_wanted(file: Elsewhere, listed: Listed) -> bool:
    """All but what holds the same weights in another form."""
    has_safetensors = any(other.path.endswith(".safetensors") for other in listed.files)
    return not (has_safetensors and PurePosixPath(file.path).suffix.lower() in OTHER_FORMS)


def _patiently(work: Work, attempt: Callable[[], Result], received: Callable[[], int] = lambda: 0) -> Result:
    """What `attempt` comes to, made again after an UpstreamError: while more is received, or a few times."""
    tries, before = 0, received()
    while True:
        try:
            return attempt()
        except UpstreamError:
            here = received()
            tries, before = (1 if here > before else tries + 1), here
            if tries >= MOST_TRIES:
                raise
            _pause(work, min(PAUSE_S * 2 ** (tries - 1), LONGEST_PAUSE_S))


def _pause(work: Work, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        _check_ours(work)
        time.sleep(min(seconds, INTERVAL_S))


def _check_ours(work: Work) -> None:
    if work.lease.lost():
        raise CancelledError("the pull was cancelled")


class _Pull:
    """One revision on its way."""

    def __init__(self, work: Work, upstream: Upstream, repo: Repo, commit: str, total: int) -> None:
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
        if not self._is_here(file, sha256):
            received = partial(self._work.blobs.received, self._owner, sha256)
            _patiently(self._work, lambda: self._add(file, sha256), received)
            self._work.store.record_blob(sha256, file.size)
        return sha256

    def _is_here(self, file: Elsewhere, sha256: str) -> bool:
        """Whether the bytes are here, and public or this repo's: the hash alone gives nobody those of others."""
        store = self._work.store
        is_ours = store.may_read_blob(None, sha256) or store.size_in_repo(self._repo.id, sha256) is not None
        return is_ours and store.blob_size(sha256) == file.size

    def _add(self, file: Elsewhere, sha256: str) -> None:
        """Fetch what is missing. Raises UpstreamError when it breaks off; what came is kept."""
        with self._work.blobs.resume_upload(self._owner, sha256, file.size) as upload:
            if not upload.complete:
                self._pour(file, upload)
            if not upload.complete:
                raise UpstreamError("the upstream broke off", where=file.path, found=f"{upload.received} bytes")
            upload.finish(announce=self._announce)

    def _pour(self, file: Elsewhere, upload: Upload) -> None:
        with self._upstream.reading(self._repo.full_name, self._commit, file, upload.received) as blocks:
            for block in self._watched(blocks, upload.received):
                upload.write(block)

    def _small(self, file: Elsewhere) -> str:
        """A file that the upstream keeps in git: small enough to be hashed in memory."""
        if file.size > LARGEST_UNHASHED:
            raise FileError("a large file without a sha256", where=file.path, found=f"{file.size} bytes")
        content = _patiently(self._work, lambda: self._whole(file))
        if len(content) > file.size or (file.oid is not None and git_oid(content) != file.oid):
            found = f"{len(content)} bytes with the hash {git_oid(content)}"
            raise FileError("not what the upstream listed", where=file.path, found=found, expected=file.oid)
        sha256, size = self._work.blobs.put_bytes(content, self._announce)
        self._work.store.record_blob(sha256, size)
        return sha256

    def _whole(self, file: Elsewhere) -> bytes:
        """The file, or a little more than it should have. Raises UpstreamError for less."""
        content = bytearray()
        with self._upstream.reading(self._repo.full_name, self._commit, file, 0) as blocks:
            for block in self._watched(blocks, 0):
                content += block
                if len(content) > file.size:
                    break
        if len(content) < file.size:
            raise UpstreamError("the upstream broke off", where=file.path, found=f"{len(content)} bytes")
        return bytes(content)

    def _watched(self, blocks: Iterator[bytes], received: int) -> Iterator[bytes]:
        """The blocks, while the job is ours; progress is told on the way."""
        for block in blocks:
            _check_ours(self._work)
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
