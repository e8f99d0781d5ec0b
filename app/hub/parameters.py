"""How many numbers of which type a repo's weights hold, by the headers of its safetensors files."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from math import prod

from app.hub.snapshots import SnapshotFile
from app.store.blobs import Blobs
from merge_core.documents import parse_json
from merge_core.errors import MalformedError

WEIGHTS = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors|adapter_model\.safetensors")
PREFIX_BYTES = 8
LARGEST_HEADER = 16 << 20
MOST_SHARDS = 500


def count_parameters(blobs: Blobs, files: Iterable[SnapshotFile]) -> dict[str, object] | None:
    """Numbers by type, and of all; None where there are no weights that are built and can be read."""
    digests = [(file.sha256, file.size) for file in files if WEIGHTS.fullmatch(file.path)]
    if not digests or len(digests) > MOST_SHARDS or any(digest is None for digest, _ in digests):
        return None
    counts = [_counted(blobs, digest, size) for digest, size in digests if digest is not None]
    total: Counter[str] = Counter()
    for count in counts:
        if count is None:
            return None
        total.update(count)
    return {"parameters": dict(total), "total": total.total()}


@lru_cache(maxsize=4096)
def _counted(blobs: Blobs, digest: str, size: int) -> Counter[str] | None:
    length = int.from_bytes(b"".join(blobs.read(digest, 0, min(PREFIX_BYTES, size))), "little")
    if size < PREFIX_BYTES or length > min(size - PREFIX_BYTES, LARGEST_HEADER):
        return None
    try:
        header = parse_json(b"".join(blobs.read(digest, PREFIX_BYTES, PREFIX_BYTES + length)))
    except MalformedError:  # pushed as it is, and marked: see docs/records.md
        return None
    return _by_type(header) if isinstance(header, dict) else None


def _by_type(header: dict[str, object]) -> Counter[str] | None:
    found: Counter[str] = Counter()
    for name, told in header.items():
        if name == "__metadata__":
            continue
        fields = told if isinstance(told, dict) else {}
        dtype, shape = fields.get("dtype"), fields.get("shape")
        if not isinstance(dtype, str) or not isinstance(shape, list) or not all(type(side) is int for side in shape):
            return None
        found[dtype] += prod(shape)
    return found
