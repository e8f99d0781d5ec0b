"""Repos that are not here: by setting, clients are sent on to the upstream hub, as if nobody knew of them here."""

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from app.api.services import Services
from app.upstream import Upstream

COPIED = ("etag", "x-repo-commit", "x-linked-etag", "x-linked-size", "x-error-code", "x-error-message")
"""What clients learn from HEAD of a file; a redirect alone would not tell them."""


def sends_on(pot: Services, request: Request) -> bool:
    """True where a request for a repo that is missing, or hidden, is the upstream's to answer."""
    return bool(pot.settings.upstream and pot.settings.upstream_redirect) and request.method in ("GET", "HEAD")


def sent_on(pot: Services, request: Request) -> Response:
    """To the same place there. Tokens stay here, the caller's and the operator's."""
    query = f"?{request.url.query}" if request.url.query else ""
    target = f"{request.scope['path']}{query}"
    if request.method == "GET":
        return RedirectResponse(pot.settings.upstream + target)
    with Upstream(pot.settings) as upstream:
        found = upstream.head(target)
    headers = {name: found.headers[name] for name in COPIED if name in found.headers}
    if found.is_client_error or found.is_server_error:
        return Response(status_code=found.status_code, headers=headers)
    size = found.headers.get("x-linked-size") or found.headers.get("content-length")
    linked = {"X-Linked-Size": size, "X-Linked-ETag": found.headers.get("x-linked-etag") or found.headers.get("etag")}
    location = str(found.url.join(found.headers.get("location", str(found.url))))
    return RedirectResponse(location, headers=headers | {name: value for name, value in linked.items() if value})
