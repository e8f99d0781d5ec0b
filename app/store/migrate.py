"""Bring the tables to the newest revision. Safe to call from several processes at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from app.store.database import WRITES

FOLDER = Path(__file__).parent / "migrations"
LOCK = 7_305_118_220_431  # any number that no other program takes for a PostgreSQL advisory lock


def migrate(engine: Engine) -> None:
    """Run what is missing, in one transaction that holds a lock."""
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    newest = ScriptDirectory.from_config(config).get_current_head()
    if _current(engine) == newest:
        return
    with engine.connect() as connection:
        locked = connection.execution_options(**{WRITES: True})
        with locked.begin():
            _lock(locked)
            config.attributes["connection"] = locked
            command.upgrade(config, "head")


def _current(engine: Engine) -> str | None:
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": LOCK})
