"""What the Hub's routes have in common: errors in the Hub's form, and parameters that are decoded late."""

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import unquote, urlencode

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.convertors import Convertor, register_url_convertor

from app.api.services import Services
from app.hub.elsewhere import sends_on, sent_on
from app.hub.errors import MissingRepoError, NamelessRepoError, answer
from app.problems import invalid_fields
from merge_core.errors import StockpotError


class HubRoute(APIRoute):
    """A route whose errors Hub clients understand."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with its errors caught."""
        inner = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                return await inner(request)
            except (MissingRepoError, NamelessRepoError) as error:
                return await _elsewhere(request, error)
            except StockpotError as error:
                return answer(error)
            except RequestValidationError as error:
                return answer(invalid_fields(list(error.errors())))

        return handler


async def _elsewhere(request: Request, error: StockpotError) -> Response:
    """The upstream's answer for a repo that is missing here, where the operator wants that."""
    pot: Services = request.app.state.services
    return await run_in_threadpool(sent_on, pot, request) if sends_on(pot, request) else answer(error)


def hub_router() -> APIRouter:
    """A group of the Hub's routes; /v1 is what openapi.yaml describes, so they are not in it."""
    return APIRouter(route_class=HubRoute, include_in_schema=False)


def expanded(request: Request) -> list[str]:
    """The names in `expand`, by either spelling, given once, several times or with commas."""
    query = request.query_params
    given = [*query.getlist("expand"), *query.getlist("expand[]")]
    return [name for text in given for name in text.split(",") if name]


Expand = Annotated[list[str], Depends(expanded)]


def add_next(request: Request, response: Response, **place: str | int) -> None:
    """Say in the Link header where a list goes on: the same request, with these parameters."""
    kept = [pair for pair in request.query_params.multi_items() if pair[0] not in place]
    url = request.url.replace(query=urlencode([*kept, *place.items()]))
    response.headers["Link"] = f'<{url}>; rel="next"'


class Quoted(Convertor[str]):
    """One segment, decoded: a revision."""

    regex = "[^/]+"

    def convert(self, value: str) -> str:
        return unquote(value)

    def to_string(self, value: str) -> str:
        return value


class QuotedPath(Quoted):
    """All that is left of the path, decoded."""

    regex = ".*"


register_url_convertor("quoted", Quoted())
register_url_convertor("quotedpath", QuotedPath())
