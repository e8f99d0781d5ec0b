"""Waiting a little for what cannot be foreseen: an adapter is built in seconds, and clients ask for it at once."""

from time import monotonic

import anyio
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from app.api.services import Pot, Services
from app.hub.auth import Visitor
from app.hub.snapshots import DIGITS
from app.store.records import Token, may_read
from app.store.revisions import MAIN, MAIN_REF

MOST_S = 7.0
"""Clients give the info route ten seconds. Of HEAD they want an answer at once."""
POLL_S = 0.25


async def built_soon(request: Request, caller: Visitor, pot: Pot) -> None:
    """Returns when the revision is there, will not be, is foreseen, or takes too long."""
    end = monotonic() + MOST_S
    while await run_in_threadpool(_is_coming, pot, caller, request.path_params) and monotonic() < end:
        await anyio.sleep(POLL_S)


def _is_coming(pot: Services, caller: Token | None, place: dict[str, str]) -> bool:
    repo = pot.store.get_repo(place["namespace"], place["name"])
    if repo is None or repo.awaits is None or not may_read(caller, repo):
        return False
    revision = place.get("revision", MAIN)
    composition = pot.store.awaited_by(repo) if revision in (MAIN, MAIN_REF) or DIGITS.fullmatch(revision) else None
    if composition is None or revision not in (MAIN, MAIN_REF, composition.digest[: len(revision)]):
        return False
    return composition.is_open and not composition.files
