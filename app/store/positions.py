"""Cursors of listings that show the newest first: where the next page begins, even when rows come in between."""

from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Select, Table, literal, tuple_

from app.store.columns import EPOCH, MICROSECOND, Moment
from merge_core.errors import InputError


class Dated(Protocol):
    """A record with an id and a time."""

    @property
    def id(self) -> str: ...

    @property
    def created_at(self) -> datetime: ...


def cursor_of(last: Dated) -> str:
    """Where the page after the one that ends with `last` begins."""
    return f"{(last.created_at - EPOCH) // MICROSECOND}-{last.id}"


def after_newest(query: Select[Any], table: Table, cursor: str | None) -> Select[Any]:
    """The query from `cursor` on, the newest first."""
    if cursor:
        moment, _, identity = cursor.partition("-")
        if not (moment.isdecimal() and len(moment) < 18):
            raise InputError("not a cursor of this listing", where="cursor", found=cursor, expected="a next_cursor")
        position = tuple_(literal(EPOCH + int(moment) * MICROSECOND, Moment), literal(identity))
        query = query.where(tuple_(table.c.created_at, table.c.id) < position)
    return query.order_by(table.c.created_at.desc(), table.c.id.desc())
