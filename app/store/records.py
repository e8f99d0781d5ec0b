"""What the store hands out: frozen rows, with nothing of SQL in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Generic, Literal, TypeVar

Scope = Literal["read", "write", "admin"]
RepoKind = Literal["files", "base", "delta", "composition"]
JobState = Literal["planned", "queued", "running", "done", "failed", "cancelled"]
DeltaState = Literal["ok", "refused", "files"]
Gate = Literal["", "auto", "manual"]
Json = Mapping[str, Any]
Item = TypeVar("Item")

SCOPES: tuple[Scope, ...] = ("read", "write", "admin")  # each includes those before it
OPEN_STATES: tuple[JobState, ...] = ("planned", "queued", "running")
DUE_STATES: tuple[JobState, ...] = ("queued", "running")  # what is planned waits for somebody who wants its files
ANY_NAMESPACE = "*"


@dataclass(frozen=True, slots=True)
class Token:
    """Who is asking. The secret itself is never kept: only its hash is in the table."""

    id: str
    name: str
    scopes: frozenset[str]
    namespaces: frozenset[str]
    created_at: datetime

    def allows(self, scope: Scope, namespace: str | None = None) -> bool:
        """True when some scope of the token includes `scope`, in `namespace` where one is given."""
        reaches = any(SCOPES.index(scope) <= SCOPES.index(held) for held in SCOPES if held in self.scopes)
        return reaches and (namespace is None or bool(self.namespaces & {ANY_NAMESPACE, namespace}))


# Who the service itself is, and every caller of a service that has no token (loopback only).
# `None` in place of a token means a caller without one: public repos only.
EVERYBODY = Token("open", "open", frozenset(SCOPES), frozenset({ANY_NAMESPACE}), datetime.fromtimestamp(0, UTC))


@dataclass(frozen=True, slots=True)
class Repo:
    """A named history of commits; `head` is None until the first commit.

    With a gate all may see it who could without, and tokens of its namespace alone read its files.
    `awaits` is the composition that was asked for last under this name, built or not.
    """

    id: int
    namespace: str
    name: str
    kind: RepoKind
    private: bool
    head: str | None
    created_at: datetime
    updated_at: datetime
    gated: Gate = ""
    awaits: str | None = None

    @property
    def full_name(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Commit:
    """One state of a repo's files; `id` is 40 hex digits."""

    id: str
    repo_id: int
    parent: str | None
    message: str
    author: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Ref:
    """A name of a commit: `ref` is the whole one, `refs/heads/…`, `refs/tags/…` or `refs/pr/…`."""

    ref: str
    commit: str
    message: str | None
    created_at: datetime

    @property
    def name(self) -> str:
        """The last part: a branch's or a tag's name, which may hold slashes, or a pull request's number."""
        return self.ref.split("/", 2)[2]


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A file in a commit: its path inside the repo, and the blob with its bytes."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class DeltaRecord:
    """What ingesting one commit of a repo found: a delta, a base or plain files, or why it was refused.

    `base` is the one that the files name, `base_repo` and `base_commit` the one that they were found to fit.
    """

    id: str
    repo: str
    commit: str
    base: str | None
    kind: str
    format: str
    state: DeltaState
    reason: str | None
    summary: Json
    created_at: datetime
    base_repo: str | None = None
    base_commit: str | None = None
    facts: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredHash:
    """One tensor of a known base: what it is, the hash of its bytes, and where in a blob they lie."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    blob: str
    begin: int
    length: int


@dataclass(frozen=True, slots=True)
class KnownBase:
    """A commit with a full checkpoint whose tensors are known. Those of equal `layout` have equal names and shapes."""

    key: int
    repo_id: int
    repo: str
    commit: str
    layout: str
    contents: str
    model_type: str | None

    @property
    def name(self) -> str:
        """`namespace/name@commit`."""
        return f"{self.repo}@{self.commit}"


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file of a composition that is not built: its first `known` bytes lie in a blob, from `start` on.

    Of a shard they are the header; of any other file all of them, and `shard` is None.
    """

    path: str
    size: int
    sha256: str
    start: int
    known: int
    shard: int | None


@dataclass(frozen=True, slots=True)
class Composition:
    """A recipe to be built, being built or built; `commit` is set when its files are in the repo `name`.

    `files` are known before they are built where the form of the output allows it.
    """

    id: str
    name: str
    recipe: Json
    digest: str
    state: JobState
    plan: Json
    shard_count: int
    private: bool
    author: str
    job_id: str
    commit: str | None
    error: Json | None
    created_at: datetime
    finished_at: datetime | None
    files: tuple[PlannedFile, ...] = ()

    @property
    def is_open(self) -> bool:
        """True while it may still change."""
        return self.state in OPEN_STATES


@dataclass(frozen=True, slots=True)
class Job:
    """Asynchronous work. `done` of `total` is in bytes; a finaliser's counts are the sums over its shards.

    `repo` says who may see it: those who may read that repo. `crashes` counts the processes it has taken down.
    """

    id: str
    kind: str
    subject_id: str
    repo: str
    parent_id: str | None
    state: JobState
    payload: Json
    done: int
    total: int
    attempts: int
    crashes: int
    result: Json | None
    error: Json | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def is_open(self) -> bool:
        """True while the job may still change."""
        return self.state in OPEN_STATES

    @property
    def is_due(self) -> bool:
        """True while it is for workers to do."""
        return self.state in DUE_STATES


@dataclass(frozen=True, slots=True)
class Ready:
    """How far a file that is being written can be read: `place` is its path in the data folder."""

    place: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job; ids grow within a job and are never used twice."""

    id: int
    job_id: str
    kind: str
    data: Json
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """A stretch of a listing; `next_cursor` asks for the one after it, None at the end."""

    items: tuple[Item, ...]
    next_cursor: str | None


def may_read(caller: Token | None, repo: Repo) -> bool:
    """Public repos for everybody, private ones for tokens of their namespace."""
    return not repo.private or (caller is not None and caller.allows("read", repo.namespace))


def may_read_files(caller: Token | None, repo: Repo) -> bool:
    """Whoever may read the repo, unless it is gated: then tokens of its namespace."""
    is_let_in = not repo.gated or (caller is not None and caller.allows("read", repo.namespace))
    return is_let_in and may_read(caller, repo)
