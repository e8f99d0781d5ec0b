"""Stores on both databases, blobs on both kinds of shelf: each test that asks for one runs on all."""

import secrets
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from app.store.records import FileEntry
from app.store.store import Store
from tests.app.postgres import postgres
from tests.app.tables import lay_tables

MIGRATED = "migrated"
"""The database with all tables that others are copies of."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        store = Store(new_database(url, name=MIGRATED))
        store.migrate()
        store.close()
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stockpot.db'}"
    server = request.getfixturevalue("postgres_server")
    return new_database(server)


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        lay_tables(tmp_path / "stockpot.db")
        return f"sqlite:///{tmp_path / 'stockpot.db'}"
    return new_database(request.getfixturevalue("postgres_server"), template=MIGRATED)


@pytest.fixture
def store(migrated_url: str) -> Iterator[Store]:
    store = Store(migrated_url)
    yield store
    store.close()


def new_database(server: str, *, name: str = "", template: str = "template1") -> str:
    name = name or f"test_{secrets.token_hex(8)}"
    url = make_url(server)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    return url.set(database=name).render_as_string()


def keep(store: Store, content: bytes, path: str = "a.txt") -> FileEntry:
    """A file whose blob is recorded."""
    entry = FileEntry(path, sha256(content).hexdigest(), len(content))
    store.record_blob(entry.sha256, entry.size)
    return entry
