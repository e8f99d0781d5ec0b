"""The connection to SQLite or PostgreSQL, and what a transaction means on each."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from random import uniform
from sqlite3 import SQLITE_BUSY, OperationalError
from threading import Lock
from time import monotonic, sleep
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, Executable, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

BUSY_TIMEOUT_MS = 30_000
WRITES = "stockpot_writes"
LASTING = "stockpot_lasting"
SYNCHRONOUS = "stockpot_synchronous"
PRIMARY_CODE = 0xFF
"""The bits of SQLite's extended codes that say the kind of error."""


class Database:
    """Transactions. `write` takes SQLite's one write lock at once: taken later, it fails when others wrote between."""

    def __init__(self, url: str) -> None:
        self.engine = _engine(url)
        # SQLite makes a second writer sleep and look again; threads of one process need not.
        self._turn: AbstractContextManager[object] = Lock() if self.engine.dialect.name == "sqlite" else nullcontext()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view; blocks no writer."""
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self, *, lasting: bool = True) -> Iterator[Connection]:
        """Commits at the end of the block, rolls back when it raises.

        Without `lasting` the commit does not wait for the disk. A power cut may then undo it, together with all that
        came after; any later commit that lasts makes it last too. For what is worth nothing without that later one.
        """
        with self._turn, self.engine.connect() as connection:
            connection = connection.execution_options(**{WRITES: True, LASTING: lasting})
            with connection.begin():
                if not lasting and self.engine.dialect.name == "postgresql":
                    connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
                yield connection

    def close(self) -> None:
        """Close every connection. Do so before a fork: a child must not share them."""
        self.engine.dispose()


def dialect_of(connection: Connection) -> Any:
    """The module of SQLAlchemy whose `insert` knows ON CONFLICT on this database."""
    return postgresql if connection.dialect.name == "postgresql" else sqlite


def on_each_dialect(make: Callable[[Any], Executable]) -> Callable[[Connection], Executable]:
    """A statement that is made once for each database, out of its module's `insert`."""
    modules: tuple[ModuleType, ...] = (sqlite, postgresql)
    made = {module.dialect.name: make(module) for module in modules}
    return lambda connection: made[connection.dialect.name]


def _engine(url: str) -> Engine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        return _sqlite(create_engine(parsed, pool_size=8, max_overflow=64))
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    return create_engine(parsed, pool_size=8, max_overflow=16, pool_pre_ping=True)


def _sqlite(engine: Engine) -> Engine:
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is deferred and comes too late
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _log_ahead(connection)
    # A commit survives a power cut; measured 260 such transactions a second on a plain disk.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _log_ahead(connection: Any) -> None:
    """Of connections that switch a new file to its log at once, SQLite fails all but one without waiting."""
    latest = monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except OperationalError as error:
            if error.sqlite_errorcode & PRIMARY_CODE != SQLITE_BUSY or monotonic() > latest:
                raise
            sleep(uniform(0.001, 0.01))
        else:
            return


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get(WRITES, False):
        _synchronise(connection, "FULL" if options.get(LASTING, True) else "NORMAL")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get(WRITES, False) else "BEGIN")


def _synchronise(connection: Connection, how: str) -> None:
    if connection.info.get(SYNCHRONOUS) != how:
        connection.exec_driver_sql(f"PRAGMA synchronous = {how}")
        connection.info[SYNCHRONOUS] = how
