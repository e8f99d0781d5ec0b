"""Request bodies: read within a limit, parsed strictly, checked against a model that names the misspelt field."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool

from app.api.recipe_yaml import yaml_wish
from app.problems import MediaTypeError, TooLargeError, invalid_fields
from merge_core.documents import parse_json
from merge_core.errors import nearest

LARGEST_BYTES = 1 << 20
QUICK_BYTES = 1 << 14
"""JSON that is parsed sooner than another thread is asked to."""
JSON_TYPE = "application/json"
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml")


class Body(BaseModel):
    """What a request's body may hold: exactly the fields of the subclass."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown_fields(cls, data: Any) -> Any:
        unknown = [key for key in data if key not in cls.model_fields] if isinstance(data, dict) else []
        if unknown:
            expected = nearest(unknown[0], cls.model_fields)
            context = {"found": unknown[0], "expected": expected}
            raise PydanticCustomError("unknown_field", "there is no such field", context)
        return data


DOCUMENTED: set[type[Body]] = set()
"""The bodies whose schemas app/openapi.py adds to the description."""

Model = TypeVar("Model", bound=Body)


def body_of(
    model: type[Model], *, reads_yaml: bool = False, limit: int = LARGEST_BYTES
) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that yields the request's body as `model`."""
    types = (JSON_TYPE, *YAML_TYPES) if reads_yaml else (JSON_TYPE,)

    async def parsed(request: Request) -> Model:
        kind = _media_type(request, types)
        raw = await read_limited(request, limit)
        name = request.query_params.get("name") if "name" in model.model_fields else None
        parse = partial(yaml_wish, name=name) if kind in YAML_TYPES else parse_json
        is_quick = kind == JSON_TYPE and len(raw) <= QUICK_BYTES
        data = parse(raw) if is_quick else await run_in_threadpool(parse, raw)
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise invalid_fields(error.errors(include_url=False)) from None

    return parsed


def documented(model: type[Body], *, reads_yaml: bool = False) -> dict[str, Any]:
    """Arguments for a route's decorator that show the body in the documentation: FastAPI does not see `body_of`."""
    DOCUMENTED.add(model)
    schema = {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}
    types = (JSON_TYPE, YAML_TYPES[0]) if reads_yaml else (JSON_TYPE,)
    return {"openapi_extra": {"requestBody": {"required": True, "content": dict.fromkeys(types, schema)}}}


async def read_limited(request: Request, limit: int = LARGEST_BYTES) -> bytes:
    """The whole body; raises TooLargeError as soon as it is known to be larger than `limit` bytes."""
    _check_size(declared_length(request) or 0, limit)
    parts = bytearray()
    async for chunk in request.stream():
        parts += chunk
        _check_size(len(parts), limit)
    return bytes(parts)


def _media_type(request: Request, allowed: tuple[str, ...]) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in allowed:
        expected = " or ".join(allowed[:2])
        raise MediaTypeError(
            "the body's type is not read here", where="header Content-Type", found=repr(kind), expected=expected
        )
    refuse_encoding(request)
    return kind


def refuse_encoding(request: Request) -> None:
    """Raises MediaTypeError for a compressed body: it would have two lengths and two hashes."""
    encoding = request.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise MediaTypeError(
            "a compressed body is not read here", where="header Content-Encoding", found=encoding, expected="identity"
        )


def declared_length(request: Request) -> int | None:
    """The body's length as its header has it; the server refuses one that is not a number."""
    value = request.headers.get("content-length", "")
    return int(value) if value.isascii() and value.isdigit() and len(value) < 20 else None


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise TooLargeError("the body is too large", where="body", found=f"{size} bytes", expected=f"at most {limit}")
