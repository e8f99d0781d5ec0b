"""The service's tables in a file of SQLite's, made once and copied: migrating anew takes a tenth of a second a test."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from app.store.store import Store


def lay_tables(path: Path) -> None:
    """Make the file, with all tables, unless there is one."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(_empty())


@cache
def _empty() -> bytes:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "empty.db"
        store = Store(f"sqlite:///{file}")
        store.migrate()
        store.close()
        return file.read_bytes()
