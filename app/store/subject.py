"""What the files of the store share: the database, the clock, new ids."""

import secrets
from datetime import UTC, datetime

from app.store.database import Database


class Subject:
    """One subject's questions and changes."""

    def __init__(self, database: Database) -> None:
        self._database = database


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def new_id() -> str:
    """32 hex digits that nobody guesses."""
    return secrets.token_hex(16)
