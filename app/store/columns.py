"""Types of columns that mean the same in SQLite and PostgreSQL."""

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, TypeDecorator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """A time in UTC as whole microseconds since 1970: the same on every database, and exact."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> int | None:
        """To microseconds."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: Any | None, _dialect: Dialect) -> datetime | None:
        """From microseconds."""
        return None if value is None else EPOCH + value * MICROSECOND


# SQLite numbers rows by itself only where the column is exactly INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")
# NULL where there is nothing, not the JSON text "null".
Document = JSON(none_as_null=True)
