"""Errors as problem documents (RFC 9457). HTTP status codes of errors live here and nowhere else."""

import errno
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic_core import ErrorDetails
from redis.exceptions import ConnectionError as RedisConnectionError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from app.upstream import UpstreamError
from merge_core.errors import (
    CancelledError,
    CapacityError,
    ConflictError,
    FileError,
    ForbiddenError,
    InputError,
    MalformedError,
    NotFoundError,
    RecipeError,
    StockpotError,
    UnauthorizedError,
    UnsupportedError,
)

MEDIA_TYPE = "application/problem+json"
LONGEST_TEXT = 1200
"""Characters of one text in a problem, which may repeat the caller's own input."""


class FieldError(InputError):
    """A field of a request is missing, unknown or has a wrong value."""

    others: "Sequence[FieldError]" = ()


class MediaTypeError(UnsupportedError):
    """A request's Content-Type or Content-Encoding is not one that this route reads."""


class RangeError(InputError):
    """None of the bytes that a Range header asks for exist."""

    def __init__(self, header: str, size: int) -> None:
        super().__init__(
            "no such bytes in this file", where="header Range", found=header, expected=f"a range within {size} bytes"
        )
        self.size = size


class NotReadyError(CapacityError):
    """A part of the service does not answer; try again soon."""


class TooLargeError(CapacityError):
    """A request's body is larger than this service takes."""


STATUS: Mapping[type[StockpotError], HTTPStatus] = {
    MalformedError: HTTPStatus.BAD_REQUEST,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    RangeError: HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
    NotReadyError: HTTPStatus.SERVICE_UNAVAILABLE,
    UpstreamError: HTTPStatus.BAD_GATEWAY,
    TooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    FieldError: HTTPStatus.UNPROCESSABLE_ENTITY,
    FileError: HTTPStatus.UNPROCESSABLE_ENTITY,
    RecipeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    UnsupportedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    InputError: HTTPStatus.UNPROCESSABLE_ENTITY,
    NotFoundError: HTTPStatus.NOT_FOUND,
    ForbiddenError: HTTPStatus.FORBIDDEN,
    UnauthorizedError: HTTPStatus.UNAUTHORIZED,
    ConflictError: HTTPStatus.CONFLICT,
    CancelledError: HTTPStatus.CONFLICT,
    CapacityError: HTTPStatus.INSUFFICIENT_STORAGE,
}
FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

log = structlog.get_logger("stockpot.api")


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""
    app.add_exception_handler(StockpotError, _on_stockpot_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(OSError, _on_os_error)
    app.add_exception_handler(OperationalError, _on_unavailable)
    app.add_exception_handler(RedisConnectionError, _on_unavailable)
    app.add_exception_handler(Exception, _on_unexpected)


def problem(error: StockpotError) -> JSONResponse:
    """The response that says what went wrong."""
    kind = _kind(error)
    body: dict[str, object] = {"type": f"/problems/{_slug(kind.__name__)}", "title": _title(kind)}
    body |= {"detail": _shortened(str(error)), **parts_of(error)}
    if isinstance(error, FieldError) and error.others:
        body["errors"] = [{"detail": item.message, **parts_of(item)} for item in (error, *error.others)]
    return _response(STATUS[kind], body, headers_of(error))


def status_of(error: StockpotError) -> HTTPStatus:
    """The status that says what kind of error it is."""
    return STATUS[_kind(error)]


def headers_of(error: StockpotError) -> dict[str, str]:
    """Headers that belong to a kind of error whatever its body."""
    if isinstance(error, UnauthorizedError):
        return {"WWW-Authenticate": 'Bearer realm="stockpot"'}
    if isinstance(error, NotReadyError):
        return {"Retry-After": "5"}
    if isinstance(error, RangeError):
        return {"Content-Range": f"bytes */{error.size}", "Accept-Ranges": "bytes"}
    return {}


def parts_of(error: StockpotError) -> dict[str, object]:
    """Where, what was found and what was expected, as far as the error says so."""
    parts = {"where": error.where, "found": error.found, "expected": error.expected}
    return {key: _plain(value) for key, value in parts.items() if value is not None}


def _kind(error: StockpotError) -> type[StockpotError]:
    return next(ancestor for ancestor in type(error).__mro__ if ancestor in STATUS)


def catalogue() -> list[dict[str, object]]:
    """Every problem type with its status, for the documentation."""
    return [
        {"type": f"/problems/{_slug(kind.__name__)}", "status": int(status), "title": _title(kind)}
        for kind, status in STATUS.items()
    ]


def invalid_fields(details: list[ErrorDetails], prefix: str = "") -> FieldError:
    """What pydantic found wrong as one error; more than one field is told under `errors`."""
    first, *rest = [_field_error(detail, prefix) for detail in details]
    first.others = rest
    return first


async def _on_stockpot_error(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StockpotError)
    return problem(error)


async def _on_invalid_request(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return problem(invalid_fields(list(error.errors())))


async def _on_http_exception(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    detail = error.detail if error.detail != status.phrase else status.description or status.phrase
    body = {"type": f"/problems/{_slug(status.phrase)}", "title": status.phrase, "detail": detail}
    return _response(status, body, dict(error.headers or {}))


async def _on_gone(_request: Request, _error: Exception) -> JSONResponse:
    """Nobody reads this one: it only keeps a dropped upload from being logged as our fault."""
    return problem(MalformedError("the connection closed before the body was complete"))


async def _on_os_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, OSError)
    if error.errno not in FULL_DISK:
        return await _on_unexpected(request, error)
    log.error("disk full", request_id=request_id(request))
    return problem(CapacityError("the service's disk is full"))


async def _on_unavailable(request: Request, error: Exception) -> JSONResponse:
    log.error("part not answering", request_id=request_id(request), error=type(error).__name__, reason=str(error))
    return problem(NotReadyError("the database or the queue does not answer"))


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    identity = request_id(request)
    log.error("unexpected", request_id=identity, exc_info=error)
    body = {
        "type": "/problems/internal",
        "title": "Something broke inside the service",
        "detail": f"This is our fault; the service's log has it under request {identity}.",
    }
    return _response(HTTPStatus.INTERNAL_SERVER_ERROR, body, {"X-Request-ID": identity})


def request_id(request: Request) -> str:
    """The request's identity, as the log and the X-Request-ID header have it."""
    return str(getattr(request.state, "request_id", "unknown"))


def _response(status: HTTPStatus, body: Mapping[str, object], headers: Mapping[str, str]) -> JSONResponse:
    return JSONResponse({**body, "status": int(status)}, int(status), headers=dict(headers), media_type=MEDIA_TYPE)


def _field_error(detail: ErrorDetails, prefix: str) -> FieldError:
    context: dict[str, Any] = detail.get("ctx") or {}
    unknown = (context["found"],) if detail["type"] == "unknown_field" else ()
    where = _path((*detail["loc"], *unknown), prefix)
    missing = detail["type"] == "missing"
    message = "this field is missing" if missing else detail["msg"]
    found = None if missing else context.get("found", detail["input"])
    return FieldError(message, where=where, found=_shown(found), expected=context.get("expected"))


def _path(location: tuple[int | str, ...], prefix: str) -> str:
    """A field's path as a person writes it: `files[0].sha256`; query, path and header say so in front."""
    source, *rest = location or ("body",)
    if source in ("query", "path", "header") and rest:
        return f"{source} {rest[0]}"
    names = location[1:] if source == "body" else location
    joined = "".join(f"[{name}]" if isinstance(name, int) else f".{name}" for name in names).lstrip(".")
    return f"{prefix}{joined}" or "body"


def _title(kind: type[StockpotError]) -> str:
    return (kind.__doc__ or "").splitlines()[0].rstrip(".")


def _shown(value: object) -> str | None:
    return None if value is None else repr(value)


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int) else _shortened(str(value))


def _shortened(text: str) -> str:
    kept = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
    return kept.encode(errors="backslashreplace").decode()  # a lone surrogate cannot be sent


def _slug(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[\s_]+", "-", name).lower()
