"""What is known of every request: an id, a line in the log, a count and a latency by route template."""

import re
import time
import uuid
from collections.abc import MutableMapping
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "OPTIONS"})
QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

log = structlog.get_logger("stockpot.api")


class Observer:
    """Middleware; latency is the time until the response starts, as an event stream has no useful end."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        labels = ("method", "route")
        self.requests = Counter("stockpot_http_requests", "Requests answered", (*labels, "status"), registry=registry)
        self.seconds = Histogram(
            "stockpot_http_response_start_seconds", "Time until a response starts", labels, registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        identity = _identity(Headers(scope=scope))
        scope.setdefault("state", {})["request_id"] = identity
        started, answered = time.perf_counter(), False

        async def observed(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = True
                MutableHeaders(scope=message)["X-Request-ID"] = identity
                self._record(scope, message["status"], time.perf_counter() - started)
            await send(message)

        try:
            return await self.app(scope, receive, observed)
        finally:
            if not answered:  # the handler of unexpected errors sits outside of this middleware
                self._record(scope, 500, time.perf_counter() - started)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        route = _template(scope)
        self.requests.labels(method, route, status).inc()
        self.seconds.labels(method, route).observe(seconds)
        write = log.debug if scope["path"] in QUIET else log.info
        identity = scope["state"]["request_id"]
        milliseconds = round(seconds * 1000, 1)
        write("request", request_id=identity, method=method, path=scope["path"], status=status, ms=milliseconds)


def _template(scope: MutableMapping[str, Any]) -> str:
    return str(getattr(scope.get("route"), "path", "unmatched"))


def _identity(headers: Headers) -> str:
    given = headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
