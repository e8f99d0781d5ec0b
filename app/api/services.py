"""What the routes work with: made once in app/main.py, handed to each request."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from prometheus_client import CollectorRegistry
from redis import Redis

from app.jobs.queue import Jobs
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.store import Store


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one running service."""

    settings: Settings
    store: Store
    blobs: Blobs
    jobs: Jobs
    redis: Redis
    metrics: CollectorRegistry


def services_of(request: Request) -> Services:
    """What `Pot` is, for who has the request anyway: a dependency is solved again wherever it is named."""
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


async def _services(request: Request) -> Services:
    return services_of(request)


Pot = Annotated[Services, Depends(_services)]
