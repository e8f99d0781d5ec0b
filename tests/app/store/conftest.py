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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'stockpot.db'}"
    server = request.getfixturevalue("postgres_server")
    return new_database(server)


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    store = Store(database_url)
    store.migrate()
    yield store
    store.close()


def new_database(server: str) -> str:
    name = f"test_{secrets.token_hex(8)}"
    url = make_url(server)
    with psycopg.connect(host=str(url.query["host"]), user=url.username, dbname="postgres", autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return url.set(database=name).render_as_string()


def keep(store: Store, content: bytes, path: str = "a.txt") -> FileEntry:
    """A file whose blob is recorded."""
    entry = FileEntry(path, sha256(content).hexdigest(), len(content))
    store.record_blob(entry.sha256, entry.size)
    return entry
