"""The routes under /v1: parse, call, return. A group of routes is one file plus one line in `ROUTERS`."""

from app.api import (
    compositions,
    compress,
    deltas,
    deployments,
    extract,
    files,
    health,
    jobs,
    plans,
    pulls,
    repos,
    tokens,
)

ROUTERS = (
    health.router,
    plans.router,
    repos.router,
    files.router,
    compositions.router,
    deltas.router,
    compress.router,
    extract.router,
    deployments.router,
    pulls.router,
    jobs.router,
    tokens.router,
)
