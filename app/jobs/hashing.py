"""The hashes of a checkpoint's tensors: each byte is read once, whoever publishes it again."""

from collections.abc import Mapping
from hashlib import sha256

from app.jobs.perform import Work
from app.store.records import StoredHash
from merge_core.errors import CancelledError
from merge_core.sources import Source
from merge_core.stored import StoredTensor

PIECE_BYTES = 1 << 22
"""Read between two looks at whether the job is still wanted."""

NOWHERE = -1
"""Where a tensor begins that is not one run of its file's bytes: one of a pickle may be a view."""


def hash_tensors(work: Work, source: Source, tensors: Mapping[str, StoredTensor]) -> list[StoredHash]:
    """The sha256 of each tensor's bytes, taken from earlier commits where these had the same file.

    Raises CancelledError when the job is no longer this process's.
    """
    blobs = source.hashes or {}
    known = work.store.hashes_in({blobs[stored.file] for stored in tensors.values()})
    total = sum(stored.spec.nbytes for stored in tensors.values())
    done, rows = 0, []
    for name, stored in tensors.items():
        blob, length = blobs[stored.file], stored.spec.nbytes
        begin = stored.begin if stored.path is not None else NOWHERE
        digest = (known.get((blob, begin, length)) if begin >= 0 else None) or _hash(work, stored, done, total)
        rows.append(StoredHash(name, stored.spec.dtype.label, stored.spec.shape, digest, blob, begin, length))
        done += length
    return rows


def _hash(work: Work, stored: StoredTensor, before: int, total: int) -> str:
    digest = sha256()
    for start in range(0, stored.data.size, PIECE_BYTES):
        if work.lease.lost():
            raise CancelledError("the job was cancelled or taken over", where=stored.file)
        digest.update(stored.data[start : start + PIECE_BYTES].data)
        work.lease.progress(before + start, total)
    return digest.hexdigest()
