"""Packing: a full fine-tune that is here is kept against its base, in a fraction of its bytes, every one restorable."""

import os
from collections.abc import Set
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from app.jobs.perform import Work
from app.jobs.queue import Jobs
from app.jobs.staging import close_attempt, open_attempt
from app.store.blobs import CHECKPOINT
from app.store.packed_shelf import LEAST_PACKED_BYTES, PackedShelf
from app.store.records import FileEntry, Repo, StoredHash
from merge_core.errors import CancelledError, ConflictError, FileError, NotFoundError
from merge_core.packing import Known, Origin, Packed, Packing, Ranges, pack
from merge_core.packing.index import Segment
from merge_core.packing.pack import Alike
from merge_core.tensors import TensorSpec

MOST_KEPT = 0.9
"""The share of a file that its packed form may take: less gained is not worth decoding."""
LEAST_SHARED_BYTES = 1 << 16
"""A smaller tensor is kept in each file: scales of ones are in every model, and say nothing."""


def submit_packing(work: Work, repo: Repo, commit: str) -> None:
    """Queue the packing of what was just looked at, where it may be worth it: a composition can be built again."""
    is_wanted = work.settings.pack and work.blobs.packing_shelf is not None and repo.kind != "composition"
    is_possible = is_wanted and _candidates(work, repo, commit)
    if is_possible and (_has_base(work, repo, commit) or _shares_tensors(work, repo, commit)):
        Jobs(work.settings, work.store).submit_packing(repo.full_name, commit)


def _has_base(work: Work, repo: Repo, commit: str) -> bool:
    record = work.store.delta_of(repo, commit)
    return record is not None and record.base_commit is not None


def _shares_tensors(work: Work, repo: Repo, commit: str) -> bool:
    own = work.store.known_base(repo.full_name, commit)
    if own is None:
        return False
    large = {tensor.sha256 for tensor in work.store.base_tensors(own.key) if tensor.length >= LEAST_SHARED_BYTES}
    return bool(set(work.store.equal_tensors(large)) - {own.key})


def pack_files(work: Work) -> None:
    """Pack each file of the commit's checkpoint that takes clearly less so; bytes before and after, by file."""
    repo, commit = work.store.require_repo(str(work.job.payload["repo"])), str(work.job.payload["commit"])
    shelf, entries = work.blobs.packing_shelf, _candidates(work, repo, commit)
    packed = _pack_entries(work, shelf, repo, commit, entries) if shelf is not None and entries else {}
    work.store.finish(work.job.id, work.lease.token, {"packed": packed})


def _pack_entries(work: Work, shelf: PackedShelf, repo: Repo, commit: str, entries: list[FileEntry]) -> dict[str, Any]:
    known = _Tensors(work, shelf, repo, commit, {entry.sha256 for entry in entries})
    packed: dict[str, Any] = {}
    folder = open_attempt(work.settings, work.job.id)
    try:
        for entry in entries:
            with suppress(ConflictError, NotFoundError):  # something has changed since: it stays as it is
                packed |= _packed_file(work, shelf, known, entry, folder / "packed")
    finally:
        close_attempt(work.settings, work.job.id)
    return packed


def _candidates(work: Work, repo: Repo, commit: str) -> list[FileEntry]:
    entries = work.store.tree(work.store.head(repo, commit))
    return [entry for entry in entries if _is_candidate(entry)]


def _is_candidate(entry: FileEntry) -> bool:
    return entry.size > LEAST_PACKED_BYTES and CHECKPOINT.fullmatch(entry.path) is not None


def _packed_file(work: Work, shelf: PackedShelf, known: "_Tensors", entry: FileEntry, partial: Path) -> dict[str, Any]:
    digest = entry.sha256
    if known.is_packed(digest) or work.store.is_origin(digest):
        return {}
    path = shelf.fetch(digest)
    found = pack(path, partial, digest, known.known, cancelled=work.lease.lost)
    if not _is_worth_it(found):
        return {}
    _check(work, shelf.opened(partial))
    _sync(partial)
    with shelf.brought_near(partial, digest) as near:  # before the transaction: to another disk it is a copy
        work.store.record_packing(
            digest,
            found.stored,
            found.origins,
            is_packed=lambda: shelf.is_packed(digest),
            install=lambda: shelf.take_packed(near, digest),
        )
    return {entry.path: _figures(found)}


def _is_worth_it(found: Packing) -> bool:
    """True for what gains by others: a file that only compresses well is a base, which is to be read at once."""
    leaning = found.by_kind.get("same", 0) + found.by_kind.get("difference", 0)
    return found.stored <= MOST_KEPT * found.size and leaning >= (1 - MOST_KEPT) * found.size


def _figures(found: Packing) -> dict[str, Any]:
    return {"bytes": found.size, "stored_bytes": found.stored, "by_kind": found.by_kind}


def _check(work: Work, packed: Packed) -> None:
    """Raises FileError where the original does not come back."""
    digest = sha256()
    for _, piece in packed.pieces(0, packed.size):
        digest.update(piece.data)
        if work.lease.lost():
            raise CancelledError("the packing was cancelled")
    if digest.hexdigest() != packed.index.sha256:
        raise FileError("what was packed does not come back", where="blob", found=digest.hexdigest())


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


class _Tensors:
    """What a commit's files may be packed against: nothing that somebody who reads them may not read."""

    def __init__(self, work: Work, shelf: PackedShelf, repo: Repo, commit: str, own: Set[str]) -> None:
        self._work, self._shelf, self._repo, self._own = work, shelf, repo, own
        self._of_base = self._tensors_of_base(commit)
        self._opened: dict[str, Ranges] = {}
        self._packed: dict[str, Packed] = {}
        self.known = Known(self._like, self._equal)

    def is_packed(self, digest: str) -> bool:
        """True when the blob has a packed form that counts."""
        return self._work.store.has_packing(digest) and self._shelf.is_packed(digest)

    def _tensors_of_base(self, commit: str) -> dict[str, StoredHash]:
        record = self._work.store.delta_of(self._repo, commit)
        if record is None or record.base_repo is None or record.base_commit is None:
            return {}
        repo = self._work.store.get_repo(*record.base_repo.split("/"))
        base = self._work.store.known_base(record.base_repo, record.base_commit)
        if repo is None or base is None or not _as_open(repo, self._repo):
            return {}
        return {tensor.name: tensor for tensor in self._work.store.base_tensors(base.key) if tensor.begin >= 0}

    def _like(self, spec: TensorSpec) -> Alike | None:
        """The base's tensor of this name, shape and type; where the base is packed, what that was packed against."""
        found = self._of_base.get(spec.name)
        if found is None or (found.dtype, found.shape) != (spec.dtype.label, spec.shape):
            return None
        place: Origin | None = Origin(sha256=found.blob, begin=found.begin)
        while place is not None and self.is_packed(place.sha256):
            segment, offset = self._segment(place, found.length)
            place = None if segment is None else _moved(segment, offset)
        return None if place is None else self._bytes(place, found.length)

    def _equal(self, tensor: str, nbytes: int) -> Alike | None:
        """Bytes of this hash in any other commit's file, where these are stored."""
        if nbytes < LEAST_SHARED_BYTES:
            return None
        found = self._work.store.equal_tensor(self._repo, tensor, nbytes, besides=self._own)
        place = None if found is None else Origin(sha256=found.blob, begin=found.begin)
        if place is not None and self.is_packed(place.sha256):
            segment, offset = self._segment(place, nbytes)
            if segment is not None and segment.kind == "same":
                place = _moved(segment, offset)
        return None if place is None else self._bytes(place, nbytes)

    def _segment(self, place: Origin, nbytes: int) -> tuple[Segment | None, int]:
        """The packed file's segment with these bytes, and where in it they begin."""
        if place.sha256 not in self._packed:
            self._packed[place.sha256] = self._shelf.packed(place.sha256)
        packed = self._packed[place.sha256]
        for start, segment in zip(packed.index.starts(), packed.index.segments, strict=True):
            if start <= place.begin and place.begin + nbytes <= start + segment.length:
                return segment, place.begin - start
        return None, 0

    def _bytes(self, place: Origin, nbytes: int) -> Alike:
        return place, self._ranges(place.sha256).read(place.begin, place.begin + nbytes)

    def _ranges(self, blob: str) -> Ranges:
        if blob not in self._opened:
            self._opened[blob] = self._shelf.ranges(blob)
        return self._opened[blob]


def _moved(segment: Segment, offset: int) -> Origin | None:
    """Where the bytes `offset` into a segment come from."""
    origin = segment.origin
    return None if origin is None else Origin(sha256=origin.sha256, begin=origin.begin + offset)


def _as_open(repo: Repo, reader: Repo) -> bool:
    """True when whoever may read `reader` may read `repo` too."""
    return not repo.private or (reader.private and repo.namespace == reader.namespace)
