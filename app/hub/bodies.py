"""Bodies as Hub clients send them: newer clients send fields that are not known here, so those are passed over."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.concurrency import run_in_threadpool

from app.api.bodies import LARGEST_BYTES, read_limited
from app.problems import invalid_fields
from merge_core.documents import parse_json


class HubBody(BaseModel):
    """What of a request's body is read."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


Model = TypeVar("Model", bound=HubBody)


def sent(model: type[Model], limit: int = LARGEST_BYTES) -> Callable[[Request], Awaitable[Model]]:
    """A dependency that yields the request's JSON as `model`; no body at all is one without fields."""

    async def parsed(request: Request) -> Model:
        raw = await read_limited(request, limit)
        data = await run_in_threadpool(parse_json, raw) if raw else {}
        try:
            return model.model_validate(data)
        except ValidationError as error:
            raise invalid_fields(error.errors(include_url=False)) from None

    return parsed
