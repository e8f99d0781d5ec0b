"""The only wiring: settings in, a running HTTP application out."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from app import hub, logs, openapi, problems
from app.api import ROUTERS
from app.api.health import StoreFigures
from app.api.observe import Observer
from app.api.services import Services
from app.hub.builds import Builds
from app.hub.paths import RawPaths
from app.jobs.queue import Jobs, connect
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.store import open_store


def create_app(settings: Settings) -> FastAPI:
    """The service's HTTP side. Raises InputError when it would listen beyond loopback without a token."""
    logs.configure()
    services = _services(settings)
    settings.check_exposure(services.store.has_tokens())
    app = FastAPI(
        title=openapi.TITLE,
        version=openapi.VERSION,
        generate_unique_id_function=openapi.operation_id,
        lifespan=_closing,
        docs_url=None,  # those pages run another site's scripts within ours
        redoc_url=None,
    )
    app.state.services = services
    app.state.builds = Builds(services)
    for router in (*ROUTERS, *hub.ROUTERS):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(RawPaths)
    app.add_middleware(Observer, registry=services.metrics)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    return app


def _services(settings: Settings) -> Services:
    store = open_store(settings)
    redis = connect(settings)
    metrics = CollectorRegistry()
    metrics.register(StoreFigures(store))
    return Services(settings, store, Blobs(settings), Jobs(settings, store, redis), redis, metrics)


@asynccontextmanager
async def _closing(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.services.redis.close()
    app.state.services.store.close()
