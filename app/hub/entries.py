"""Files and folders as the Hub shows them."""

from collections.abc import Iterable
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any

from app.hub.oids import is_large, pointer
from app.hub.snapshots import Snapshot, SnapshotFile


def stamp(moment: datetime) -> str:
    """A time as clients parse it: UTC, with milliseconds and a Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def size_of(file: SnapshotFile) -> dict[str, Any]:
    """A file's size, and what identifies a large one whose bytes are known."""
    if file.sha256 is None or not is_large(file.path, file.size):
        return {"size": file.size}
    length = len(pointer(file.sha256, file.size))
    lfs = {"oid": file.sha256, "sha256": file.sha256, "size": file.size, "pointerSize": length}
    return {"size": file.size, "lfs": lfs}


def file_entry(snapshot: Snapshot, file: SnapshotFile, oid: str, expand: bool) -> dict[str, Any]:
    """A file in a tree."""
    entry = {"type": "file", "oid": oid, "path": file.path, **size_of(file)}
    return entry | _expanded(snapshot) if expand else entry


def folder_entry(snapshot: Snapshot, path: str, expand: bool) -> dict[str, Any]:
    """A folder in a tree. Its hash is of its files' names and marks; nobody can ask for it."""
    inside = sorted((f.path, f.sha256 or f.mark) for f in snapshot.files.values() if f.path.startswith(f"{path}/"))
    oid = sha1(repr(inside).encode(), usedforsecurity=False).hexdigest()
    entry = {"type": "directory", "oid": oid, "size": 0, "path": path}
    return entry | _expanded(snapshot) if expand else entry


def folders_of(paths: Iterable[str]) -> list[str]:
    """Every folder that the files lie in."""
    found = {path[:end] for path in paths for end, letter in enumerate(path) if letter == "/"}
    return sorted(found)


def _expanded(snapshot: Snapshot) -> dict[str, Any]:
    title = snapshot.title.partition("\n")[0]
    return {"lastCommit": {"id": snapshot.commit, "title": title, "date": stamp(snapshot.created_at)}}
