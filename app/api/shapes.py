"""What the routes answer with, as the documentation shows it."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from app.store.records import (
    Composition,
    FileEntry,
    Gate,
    Job,
    JobState,
    Repo,
    RepoKind,
    Token,
)

Item = TypeVar("Item")


class Shape(BaseModel):
    """One kind of answer."""

    model_config = ConfigDict(frozen=True, from_attributes=True)

    @classmethod
    def of(cls, record: object) -> Self:
        """The answer that shows `record`."""
        return cls.model_validate(record)


class Listing(Shape, Generic[Item]):
    """A stretch of a list; pass `next_cursor` as `cursor` to read on, null at the end."""

    items: list[Item]
    next_cursor: str | None = None


class RepoShape(Shape):
    """A repo and the id of its newest commit."""

    name: str
    kind: RepoKind
    private: bool
    gated: Gate
    head: str | None
    created_at: datetime
    updated_at: datetime
    links: dict[str, str]

    @classmethod
    def of(cls, record: object) -> Self:
        assert isinstance(record, Repo)
        here = f"/v1/repos/{record.full_name}"
        links = {"self": here, **{name: f"{here}/{name}" for name in ("files", "commits", "refs")}}
        return cls(
            name=record.full_name,
            kind=record.kind,
            private=record.private,
            gated=record.gated,
            head=record.head,
            created_at=record.created_at,
            updated_at=record.updated_at,
            links=links,
        )


class CommitShape(Shape):
    """One state of a repo's files."""

    id: str
    parent: str | None
    message: str
    author: str
    created_at: datetime


class RefShape(Shape):
    """A name of a commit: a branch, a tag or a pull request; `ref` is the whole one."""

    name: str
    ref: str
    commit: str
    message: str | None
    created_at: datetime


class RefsShape(Shape):
    """All names of commits that a repo has."""

    branches: list[RefShape]
    tags: list[RefShape]
    pull_requests: list[RefShape]


class FileShape(Shape):
    """A file of a commit."""

    path: str
    sha256: str
    size: int


class TreeShape(Shape):
    """Every file of one commit."""

    commit: str
    files: list[FileShape]

    @classmethod
    def at(cls, commit: str, files: Iterable[FileEntry]) -> Self:
        """The tree of `commit`."""
        return cls(commit=commit, files=[FileShape.of(file) for file in files])


class RepoDetail(RepoShape):
    """A repo with the files of one revision."""

    commit: str | None
    files: list[FileShape]


class Written(Shape):
    """A file as it now is in the repo, and the commit that has it."""

    path: str
    sha256: str
    size: int
    commit: str


class Received(Shape):
    """How many bytes of an upload have arrived, from the start and without a gap."""

    sha256: str
    received: int


class Stored(Shape):
    """A blob that is now here."""

    sha256: str
    size: int


class Missing(Shape):
    """The files whose bytes must still be sent."""

    missing: list[FileShape]


class TokenShape(Shape):
    """A token without its secret."""

    id: str
    name: str
    scopes: list[str]
    namespaces: list[str]
    created_at: datetime

    @classmethod
    def of(cls, record: object) -> Self:
        assert isinstance(record, Token)
        return cls(**_token_fields(record))


class NewToken(TokenShape):
    """A token with its secret, which is shown this once and kept nowhere."""

    secret: str

    @classmethod
    def made(cls, token: Token, secret: str) -> Self:
        """The answer to making `token`."""
        return cls(**_token_fields(token), secret=secret)


class JobShape(Shape):
    """Asynchronous work; `done` of `total` are bytes."""

    id: str
    kind: str
    subject_id: str
    state: JobState
    done: int
    total: int
    attempts: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, record: object) -> Self:
        assert isinstance(record, Job)
        fields = {name: getattr(record, name) for name in cls.model_fields if name != "links"}
        here = f"/v1/jobs/{record.id}"
        return cls(**fields, links={"self": here, "events": f"{here}/events", "cancel": f"{here}/cancel"})


class CompositionShape(Shape):
    """A composition: its resolved recipe, its plan, how far it is, and where its files are."""

    id: str
    name: str
    state: JobState
    digest: str
    commit: str | None
    recipe: dict[str, Any]
    plan: dict[str, Any]
    error: dict[str, Any] | None
    author: str
    private: bool
    job: str
    location: str
    created_at: datetime
    finished_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, record: object) -> Self:
        assert isinstance(record, Composition)
        here = f"/v1/compositions/{record.id}"
        links = {name: f"{here}/{name}" for name in ("events", "cancel", "files")}
        derived: dict[str, Any] = {"job": record.job_id, "location": here, "links": {"self": here, **links}}
        fields = {name: getattr(record, name) for name in cls.model_fields if name not in derived}
        return cls(**fields, **derived)


class PlanShape(Shape):
    """What a recipe would build, and what it would take."""

    model_config = ConfigDict(extra="allow")

    digest: str


class Health(Shape):
    """The service's parts and whether each answers."""

    status: str
    parts: dict[str, str] = {}


def _token_fields(token: Token) -> dict[str, Any]:
    fields = {"id": token.id, "name": token.name, "created_at": token.created_at}
    return fields | {"scopes": sorted(token.scopes), "namespaces": sorted(token.namespaces)}
