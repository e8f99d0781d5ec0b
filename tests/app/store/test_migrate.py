from concurrent.futures import ThreadPoolExecutor

from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from app.store.database import Database
from app.store.migrate import migrate
from app.store.store import Store
from app.store.tables import metadata


def test_the_migrations_make_the_tables_that_the_code_describes(database_url: str) -> None:
    database = Database(database_url)
    migrate(database.engine)
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_processes_that_start_together_migrate_once(database_url: str) -> None:
    stores = [Store(database_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(Store.migrate, stores))
    assert not stores[0].has_tokens()
    for store in stores:
        store.close()
