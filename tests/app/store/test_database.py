import sqlite3
from pathlib import Path
from threading import Timer

from app.store.database import Database


def test_a_file_that_another_process_is_switching_to_its_log_is_waited_for(tmp_path: Path) -> None:
    """SQLite waits for no lock of this kind by itself: it says at once that the database is locked."""
    other = sqlite3.connect(tmp_path / "stockpot.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = Timer(0.1, other.close)
    release.start()
    database = Database(f"sqlite:///{tmp_path / 'stockpot.db'}")
    with database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    database.close()
    release.join()
