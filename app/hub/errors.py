"""What goes wrong, in the words that Hub clients turn into exceptions of their own."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from fastapi.responses import JSONResponse

from app.problems import headers_of, parts_of, status_of
from app.store.records import Token
from merge_core.errors import (
    ConflictError,
    GatedError,
    MalformedError,
    NotFoundError,
    StaleParentError,
    StockpotError,
    UnauthorizedError,
)

LONGEST_HEADER = 600


class MissingRepoError(NotFoundError):
    """No such repo, or one that is hidden from this token."""


class NamelessRepoError(UnauthorizedError):
    """The same, for a caller without a token: one might open it."""


class MissingRevisionError(NotFoundError):
    """The repo has no such branch, tag or commit."""


class MissingEntryError(NotFoundError):
    """The revision has no such file or folder; `commit` is the one that was looked in."""

    commit = ""


class GatedNamelessError(UnauthorizedError):
    """A gated repo, for a caller without a token."""


class BadTokenError(UnauthorizedError):
    """A token that is not known. The message is the one by which clients tell it from a missing repo."""


class RepoExistsError(ConflictError):
    """A repo to create is there; clients that are content with that need its address."""

    url = ""


class CardError(MalformedError):
    """A card's front matter cannot be taken; clients show each reason."""

    reasons: Sequence[str] = ()


class NotBuiltError(ConflictError):
    """The composition that was to make the file has failed, or was cancelled."""


CODES: Mapping[type[StockpotError], str] = {
    MissingRepoError: "RepoNotFound",
    NamelessRepoError: "RepoNotFound",
    MissingRevisionError: "RevisionNotFound",
    MissingEntryError: "EntryNotFound",
    GatedError: "GatedRepo",
    GatedNamelessError: "GatedRepo",
}


def missing_repo(caller: Token | None, full_name: str) -> StockpotError:
    """The answer for a repo that is not there and for one that is hidden: nobody can tell which."""
    kind = NamelessRepoError if caller is None else MissingRepoError
    return kind("no such repo, or it is private and this is not a token for it", where="repo", found=full_name)


def gated(caller: Token | None, full_name: str) -> StockpotError:
    """The answer for the files of a gated repo."""
    kind = GatedNamelessError if caller is None else GatedError
    return kind("this repo is gated: its files are for tokens of its namespace", where="repo", found=full_name)


def answer(error: StockpotError) -> JSONResponse:
    """The response from which a client makes its own exception."""
    message = error.message if isinstance(error, BadTokenError) else str(error)
    headers = {**headers_of(error), "X-Error-Message": _one_line(message)}
    if type(error) in CODES:
        headers["X-Error-Code"] = CODES[type(error)]
    if isinstance(error, MissingEntryError):
        headers["X-Repo-Commit"] = error.commit
    return JSONResponse({"error": message, **parts_of(error), **_beside(error)}, _status(error), headers=headers)


def _beside(error: StockpotError) -> dict[str, object]:
    """What clients look for in the body of some errors."""
    if isinstance(error, RepoExistsError):
        return {"url": error.url}
    if isinstance(error, CardError):
        return {"errors": [{"message": reason} for reason in error.reasons], "warnings": []}
    return {}


def _status(error: StockpotError) -> int:
    """As everywhere, but what is wrong in a request is 400, and a stale parent 412: clients know no other."""
    if isinstance(error, StaleParentError):
        return int(HTTPStatus.PRECONDITION_FAILED)
    status = status_of(error)
    return int(HTTPStatus.BAD_REQUEST if status == HTTPStatus.UNPROCESSABLE_ENTITY else status)


def _one_line(text: str) -> str:
    """Text as a header may have it."""
    return " ".join(text.split())[:LONGEST_HEADER].encode("ascii", "replace").decode()
