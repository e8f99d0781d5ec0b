"""How long a listing's page is and where it starts."""

from typing import Annotated

from fastapi import Query

Limit = Annotated[int, Query(ge=1, le=1000, description="entries on a page")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before")]
