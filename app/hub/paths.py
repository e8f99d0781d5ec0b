"""Routing on the raw path: clients put a revision such as `refs/pr/1` into one segment, as `refs%2Fpr%2F1`."""

from starlette.types import ASGIApp, Receive, Scope, Send

OURS = "/v1/"


class RawPaths:
    """Middleware: outside of /v1 the path that routes see is still percent-encoded."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope.get("raw_path") and not scope["path"].startswith(OURS):
            scope["path"] = scope["raw_path"].decode("latin-1")
        await self.app(scope, receive, send)
