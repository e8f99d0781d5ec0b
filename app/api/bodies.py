"""Request bodies: read within a limit, parsed strictly, checked against a model that names the misspelt field."""

import json
import math
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import yaml
from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool

from app.problems import MalformedError, MediaTypeError, TooLargeError, invalid_fields
from merge_core.errors import nearest

LARGEST_BYTES = 1 << 20
DEEPEST = 64
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
        data = await run_in_threadpool(parse_yaml if kind in YAML_TYPES else parse_json, raw)
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


def parse_json(raw: bytes) -> object:
    """The JSON value in `raw`; a key that is there twice, NaN, infinity and deep nesting are refused."""
    try:
        text = raw.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant, parse_float=_finite
        )
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not valid JSON: {_reason(error)}", where="body") from None
    _check_values(value)
    return value


def parse_yaml(raw: bytes) -> object:
    """The YAML value in `raw`, as plain JSON types; aliases, tags and repeated keys are refused."""
    try:
        value = yaml.load(raw.decode("utf-8"), Loader=_StrictLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MalformedError(f"not valid YAML: {_reason(error)}", where="body") from None
    _check_values(value)
    return value


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader without aliases, which can make a small file enormous, and without repeated keys."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias (*name) is not read here")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return _without_repeats(self.construct_pairs(node, deep=True))


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


def _without_repeats(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for key, value in pairs:
        if not isinstance(key, str):
            raise ValueError(f"the key {key!r} is not a text")
        if key in result:
            raise ValueError(f"the key {key!r} is there twice")
        result[key] = value
    return result


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is too large for a number")
    return value


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return f"nested deeper than {DEEPEST}"
    return str(error).replace("\n", " ")[:300]


def _check_values(value: object) -> None:
    """Raises MalformedError for what the parsers let through and no field can mean."""
    level, depth = [value], 0
    while level:
        if depth > DEEPEST:
            raise MalformedError(f"nested deeper than {DEEPEST}", where="body")
        level, depth = [inner for item in level for inner in _inside(item)], depth + 1


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        _check_text(value)
    elif not (value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))):
        raise MalformedError(
            "a value is neither text, finite number, list nor mapping", where="body", found=repr(value)
        )
    return []


def _check_text(text: str) -> None:
    if "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        raise MalformedError("a text holds NUL or half a surrogate pair", where="body", found=ascii(text[:80]))
