"""Whether the service lives, whether its parts answer, and its figures for Prometheus."""

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Response
from obstore.exceptions import BaseError as ObjectStoreError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from app.api.services import Pot, Services
from app.api.shapes import Health
from app.problems import NotReadyError
from app.store.store import Store
from merge_core.errors import StockpotError

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Is the process alive")
def healthz() -> Health:
    """Asks nothing of any other part."""
    return Health(status="ok")


@router.get("/readyz", summary="Do database, queue and blobs answer")
def readyz(pot: Pot) -> Health:
    """Asks each part a small question; a problem names the parts that do not answer."""
    parts = {name: _answer(check) for name, check in _checks(pot).items()}
    broken = [f"{name}: {answer}" for name, answer in parts.items() if answer != "ok"]
    if broken:
        raise NotReadyError("not every part answers", where="readyz", found=", ".join(broken), expected="ok")
    return Health(status="ok", parts=parts)


@router.get("/metrics", summary="Figures for Prometheus", response_class=Response)
def metrics(pot: Pot) -> Response:
    """Requests and latency by route template, jobs by state, blobs and their bytes."""
    return Response(generate_latest(pot.metrics), media_type=CONTENT_TYPE_LATEST)


class StoreFigures(Collector):
    """Counts that the database knows, asked when Prometheus asks."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def collect(self) -> Iterable[Metric]:
        jobs = GaugeMetricFamily("stockpot_jobs", "Jobs by state", labels=["state"])
        for state, count in self._store.count_jobs().items():
            jobs.add_metric([state], count)
        count, size = self._store.count_blobs()
        yield jobs
        yield GaugeMetricFamily("stockpot_blobs", "Blobs kept", value=count)
        yield GaugeMetricFamily("stockpot_blobs_bytes", "Bytes of all blobs", value=size)
        stored = self._store.stored_bytes()
        yield GaugeMetricFamily("stockpot_blobs_stored_bytes", "Bytes that all blobs take, packed or not", value=stored)


def _checks(pot: Services) -> dict[str, Callable[[], object]]:
    return {"database": pot.store.has_tokens, "queue": pot.jobs.ping, "blobs": pot.blobs.check}


def _answer(check: Callable[[], object]) -> str:
    try:
        check()
    except (SQLAlchemyError, RedisError, ObjectStoreError, StockpotError, OSError) as error:
        return type(error).__name__
    return "ok"
