"""The whole service on one machine: starts its parts, keeps them alive, stops them in order."""

import fcntl
import http.client
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from app.jobs import staging
from app.jobs.children import Child, stop
from app.jobs.queue import connect
from app.jobs.reconcile import Reconciler
from app.jobs.valkey import Valkey
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.clearing import clear_up
from app.store.files import PARTIAL
from app.store.store import Store, open_store
from merge_core.errors import CapacityError, ConflictError, InputError

READY_S = 60.0
POLL_S = 0.1
SERVICE_GRACE_S = 3.0  # what is cut off is done again at the next start
WORKER_GRACE_S = 20.0
QUEUE_GRACE_S = 3.0

ADDRESS = "address"
BACKLOG = 2048
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where this machine itself reaches such a service

Announce = Callable[[str], None]


def _say(url: str) -> None:
    print(f"Stockpot is at {url}", flush=True)


def serve(settings: Settings, on_ready: Announce = _say) -> int:
    """Run API, workers and, without a REDIS_URL, the queue, until SIGTERM or SIGINT. Calls `on_ready` with the URL."""
    with _stop_signal() as stopped, _data_folder(settings), _listener(settings) as listener:
        settings = settings.model_copy(update={"port": listener.getsockname()[1]})
        store = open_store(settings)
        settings.check_exposure(store.has_tokens())
        _tidy(settings)
        clear_up(settings, store)
        with _queue(settings, store) as (queue_url, queue):
            store.close()
            settings = settings.model_copy(update={"redis_url": queue_url})
            children = [_http(settings, listener), _role("reconcile", settings), *_workers(settings)]
            ready = _Readiness(settings, listener, on_ready)
            return _keep_running(queue, children, stopped, ready, SERVICE_GRACE_S)


def worker(settings: Settings) -> int:
    """Run workers for a service whose queue, records and blobs are elsewhere, until SIGTERM or SIGINT."""
    if settings.redis_url is None:
        raise InputError("a worker needs the queue of a service", where="REDIS_URL", expected="redis://… or unix://…")
    with _stop_signal() as stopped, _data_folder(settings):
        open_store(settings).close()
        _tidy(settings)
        return _keep_running([], _workers(settings), stopped, lambda: True, WORKER_GRACE_S)


def _keep_running(
    queue: list[Child], children: list[Child], stopped: Event, ready: Callable[[], bool], grace_s: float
) -> int:
    deadline = time.monotonic() + READY_S
    is_ready = False
    try:
        for child in children:
            child.start()
        while not stopped.wait(POLL_S):
            for child in (*queue, *children):
                child.keep_alive()
            is_ready = is_ready or ready()
            if not is_ready and time.monotonic() > deadline:
                raise CapacityError("the service does not become ready", found=f"no answer in {READY_S:.0f} s")
    finally:
        stop(children, grace_s)
    return 0


class _Readiness:
    """Asks the service whether it is ready, and tells its address once it is."""

    def __init__(self, settings: Settings, listener: socket.socket, on_ready: Announce) -> None:
        self._host, self._port = settings.host.strip("[]"), listener.getsockname()[1]
        self._on_ready = on_ready
        self._file = settings.data / ADDRESS

    def __call__(self) -> bool:
        """True when /readyz has answered 200."""
        connection = http.client.HTTPConnection(EVERYWHERE.get(self._host, self._host), self._port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            ready = connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
        if ready:
            self._tell()
        return ready

    def _tell(self) -> None:
        host = EVERYWHERE.get(self._host, self._host)
        url = f"http://[{host}]:{self._port}" if ":" in host else f"http://{host}:{self._port}"
        partial = self._file.with_suffix(PARTIAL)
        partial.write_text(f"{url}\n")
        partial.replace(self._file)
        self._on_ready(url)


def _http(settings: Settings, listener: socket.socket) -> Child:
    descriptor = listener.fileno()
    return _role("http", settings, str(descriptor), descriptors=(descriptor,))


def _workers(settings: Settings) -> list[Child]:
    return [_role("worker", settings) for _ in range(settings.workers)]


def _role(role: str, settings: Settings, *arguments: str, descriptors: tuple[int, ...] = ()) -> Child:
    command = [sys.executable, "-m", "app.roles", role, *arguments]
    return Child(role, command, {**os.environ, **settings.environment()}, descriptors)


def _tidy(settings: Settings) -> None:
    """Remove what processes that were killed have left. Nobody else is at work in this data folder."""
    staging.clear(settings)
    Blobs(settings).tidy()


@contextmanager
def _queue(settings: Settings, store: Store) -> Iterator[tuple[str, list[Child]]]:
    """The queue's URL and, where it is our own, its process, filled with all that SQL says is to be done."""
    if settings.redis_url is not None:
        yield settings.redis_url, []
        return
    valkey = Valkey(settings.data)
    child = Child("valkey", valkey.command(), os.environ)
    try:
        child.start()
        assert child.process is not None, "it has just been started"
        valkey.wait(child.process)
        own = settings.model_copy(update={"redis_url": valkey.url})
        with connect(own) as connection:
            Reconciler(own, store, connection).restore()
        yield valkey.url, [child]
    finally:
        stop([child], QUEUE_GRACE_S)
        valkey.remove()


@contextmanager
def _data_folder(settings: Settings) -> Iterator[None]:
    """The folder, made for this user alone, and ours while this lasts. Raises ConflictError when it is another's."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (settings.data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = "another service is running in this data folder"
            raise ConflictError(message, where="STOCKPOT_DATA", found=str(settings.data)) from None
        try:
            yield
        finally:
            (settings.data / ADDRESS).unlink(missing_ok=True)


@contextmanager
def _listener(settings: Settings) -> Iterator[socket.socket]:
    """A listening socket that outlives the HTTP process: while that one starts again, callers wait in line."""
    host = settings.host.strip("[]")
    try:
        family = socket.getaddrinfo(host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        found = f"{host}:{settings.port} ({error.strerror})"
        raise ConflictError("cannot listen there", where="STOCKPOT_PORT", found=found, expected="a free one") from None
    with listener:
        yield listener


@contextmanager
def _stop_signal() -> Iterator[Event]:
    """Set by SIGTERM and SIGINT."""
    stopped = Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda _number, _frame: stopped.set()) for number in numbers]
    try:
        yield stopped
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
