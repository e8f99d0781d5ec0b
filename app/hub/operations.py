"""The lines of a commit as Hub clients send them: a header, and what to do with files, one at a time."""

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from pydantic import Field, ValidationError

from app.api.committing import own_entry
from app.api.services import Services
from app.hub.auth import open_repo
from app.hub.bodies import HubBody
from app.hub.snapshots import open_snapshot
from app.names import check_no_file_is_folder, check_path
from app.problems import invalid_fields
from app.store.records import FileEntry, Repo, Token
from app.store.trees import Changes
from merge_core.documents import parse_json
from merge_core.errors import InputError, MalformedError, NotFoundError, nearest

LONGEST_MESSAGE = 1 << 16
GIT = ".git"


class Line(HubBody):
    """One line: what kind, and the rest."""

    key: str
    value: dict[str, Any]


class Header(HubBody):
    """What the commit says of itself."""

    summary: str = Field(min_length=1, max_length=LONGEST_MESSAGE)
    description: str = Field("", max_length=LONGEST_MESSAGE)
    parent: str | None = Field(None, alias="parentCommit", max_length=200)

    @property
    def message(self) -> str:
        """In one text."""
        return f"{self.summary}\n\n{self.description}".strip()


class SmallFile(HubBody):
    """A file with its content."""

    path: str
    content: str
    encoding: Literal["base64", "utf-8"] = "base64"


class LargeFile(HubBody):
    """A file whose bytes were sent before."""

    path: str
    oid: str
    algo: Literal["sha256"] = "sha256"
    size: int | None = None


class Gone(HubBody):
    """A file or a folder to delete."""

    path: str


class Copied(HubBody):
    """A file that another revision has, of this repo or another."""

    path: str
    source: str = Field(alias="srcPath")
    revision: str | None = Field(None, alias="srcRevision")
    repo: str | None = Field(None, alias="srcRepo")


@dataclass(slots=True)
class Draft:
    """A commit whose lines come in one by one. Nothing is in the repo before all of them were good."""

    pot: Services
    caller: Token
    repo: Repo
    revision: str
    header: Header | None = None
    count: int = 0
    _written: dict[str, FileEntry] = field(default_factory=dict)
    _deleted: dict[str, None] = field(default_factory=dict)

    def take(self, raw: bytes) -> None:
        """One line. Raises what is wrong with it, and where."""
        self.count += 1
        try:
            line = _parsed(Line, parse_json(raw), f"line {self.count}")
        except MalformedError as error:
            raise error.within(f"line {self.count}") from None
        if (line.key == "header") != (self.header is None):
            raise InputError("the header is the first line, and no other", where=f"line {self.count}", found=line.key)
        if self.header is None:
            self.header = _parsed(Header, line.value, line.key)
        else:
            self._act(line)

    def changes(self) -> Changes:
        """What the commit does. What it writes stays, though it also deletes it; the last to write a path wins."""
        check_no_file_is_folder(list(self._written), "lines")
        folders = [path for path in self._deleted if path.endswith("/")]
        gone = [path for path in self._deleted if not _is_within(path, folders) and path not in self._written]
        return {**dict.fromkeys(gone), **self._written}

    def _act(self, line: Line) -> None:
        where = f"line {self.count}"
        if line.key not in ACTIONS:
            raise InputError("no such operation", where=where, found=line.key, expected=nearest(line.key, ACTIONS))
        ACTIONS[line.key](self, line.value, where)

    def _file(self, value: Mapping[str, Any], where: str) -> None:
        file = _parsed(SmallFile, value, where)
        path, content = safe_path(file.path, where), _content(file, where)
        announce = partial(self.pot.store.announce_blob, owner=self.caller)
        sha256, size = self.pot.blobs.put_bytes(content, announce)
        self.pot.store.record_blob(sha256, size, self.caller)
        self._written[path] = FileEntry(path, sha256, size)

    def _large_file(self, value: Mapping[str, Any], where: str) -> None:
        file = _parsed(LargeFile, value, where)
        entry = own_entry(self.pot, self.caller, safe_path(file.path, where), file.oid, where)
        if file.size is not None and file.size != entry.size:
            raise InputError("another size", where=f"{where}.size", found=file.size, expected=entry.size)
        self._written[entry.path] = entry

    def _deleted_file(self, value: Mapping[str, Any], where: str) -> None:
        self._deleted[safe_path(_parsed(Gone, value, where).path, where)] = None

    def _deleted_folder(self, value: Mapping[str, Any], where: str) -> None:
        self._deleted[safe_path(_parsed(Gone, value, where).path.rstrip("/"), where) + "/"] = None

    def _copied(self, value: Mapping[str, Any], where: str) -> None:
        copied = _parsed(Copied, value, where)
        path, (namespace, _, name) = safe_path(copied.path, where), (copied.repo or self.repo.full_name).partition("/")
        source = open_repo(self.pot, self.caller, namespace, name)
        revision = copied.revision or (self.revision if copied.repo is None else "main")
        file = open_snapshot(self.pot, source, revision).file(copied.source)
        if file.sha256 is None:
            raise NotFoundError("this file is not built yet", where=where, found=copied.source)
        self._written[path] = FileEntry(path, file.sha256, file.size)


ACTIONS: Mapping[str, Callable[[Draft, Mapping[str, Any], str], None]] = {
    "file": Draft._file,
    "lfsFile": Draft._large_file,
    "deletedFile": Draft._deleted_file,
    "deletedFolder": Draft._deleted_folder,
    "copyFile": Draft._copied,
}


def safe_path(path: str, where: str) -> str:
    """A file's path as it stands; none inside what git keeps for itself, where clones would run it."""
    checked = check_path(path, f"{where}.path")
    if any(part.lower() == GIT for part in checked.split("/")):
        raise InputError("not a file's path", where=f"{where}.path", found=repr(path), expected="no folder '.git'")
    return checked


def _content(file: SmallFile, where: str) -> bytes:
    try:
        return b64decode(file.content, validate=True) if file.encoding == "base64" else file.content.encode()
    except (Base64Error, ValueError) as error:
        raise MalformedError(f"not valid {file.encoding}: {error}", where=f"{where}.content") from None


def _parsed(model: Any, value: object, where: str) -> Any:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid_fields(error.errors(include_url=False), f"{where}.") from None


def _is_within(path: str, folders: list[str]) -> bool:
    return any(path != folder and path.startswith(folder) for folder in folders)
