"""The files of commits, and what a commit makes of those of its parent."""

from collections.abc import Mapping
from dataclasses import replace

from sqlalchemy import Connection, bindparam, select

from app.store.records import FileEntry
from app.store.tables import blobs, commits, files
from merge_core.errors import InputError, NotFoundError, nearest

Changes = Mapping[str, FileEntry | None]
"""What a commit does, by path: the new file, or None where it is deleted; a path that ends in `/` is a whole folder.

Deletions come first: a file that is put into a folder stays, though the same commit deletes the folder.
"""

_FILES = (
    select(files.c.path, files.c.sha256, files.c.size)
    .join(commits, commits.c.key == files.c.commit_key)
    .where(commits.c.repo_id == bindparam("repo"), commits.c.id == bindparam("commit"))
)
_OF_BLOB = (blobs.c.sha256 == bindparam("blob")) & (blobs.c.state == "here")
_KEPT_SIZE = select(blobs.c.size).where(_OF_BLOB).with_for_update(read=True)


def tree_of(connection: Connection, repo_id: int, commit_id: str) -> list[FileEntry]:
    """Every file of a commit, by path."""
    rows = connection.execute(_FILES, {"repo": repo_id, "commit": commit_id})
    entries = [FileEntry(row.path, row.sha256, row.size) for row in rows]
    return sorted(entries, key=lambda entry: entry.path)  # databases disagree on the order of text


def changed(before: Mapping[str, FileEntry], changes: Changes) -> dict[str, FileEntry]:
    """The tree after a commit. Raises NotFoundError for a file or a folder to delete that is not there."""
    after = dict(before)
    for path in (path for path, entry in changes.items() if entry is None):
        gone = [inside for inside in after if inside.startswith(path)] if path.endswith("/") else [path]
        if not gone or (path not in after and not path.endswith("/")):
            raise NotFoundError("no such file to delete", where=path, expected=nearest(path, before))
        for inside in gone:
            del after[inside]
    after |= {path: replace(entry, path=path) for path, entry in changes.items() if entry is not None}
    return dict(sorted(after.items()))


def check_tree(connection: Connection, tree: Mapping[str, FileEntry], changes: Changes) -> None:
    """Raises InputError where a file is also a folder, NotFoundError for bytes that are not here.

    Those that are cannot go before the transaction is over.
    """
    for path in tree:
        parts = path.split("/")
        for depth in range(1, len(parts)):
            if (folder := "/".join(parts[:depth])) in tree:
                raise InputError("a file and a folder cannot have one name", where=path, found=f"a file '{folder}'")
    for path, entry in changes.items():
        size = None if entry is None else _blob_size(connection, entry.sha256)
        if entry is not None and size != entry.size:
            found = "nothing" if size is None else f"{size} bytes"
            raise NotFoundError("these bytes are not here", where=path, found=found, expected=f"{entry.size} bytes")


def _blob_size(connection: Connection, digest: str) -> int | None:
    """Of bytes that are here, and cannot go before the transaction is over."""
    return connection.execute(_KEPT_SIZE, {"blob": digest}).scalar_one_or_none()
