"""The routes that Xet clients send to. What is not here they ask for first, and do without on a 404."""

import json
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import IO

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from app.api.bodies import declared_length, refuse_encoding
from app.api.receiving import PIECE_BYTES, check_limit, pour
from app.api.services import Pot, Services
from app.hub.route import hub_router
from app.hub.xet import shard, xorb
from app.hub.xet.assemble import assemble
from app.hub.xet.hashes import is_text
from app.hub.xet.tokens import ROOT, Sender
from app.store.records import Token
from app.store.uploads import Upload
from merge_core.errors import InputError, StockpotError

router = hub_router()
PREFIX = "default"
BETWEEN_FRAMES_S = 1.0


@router.post(ROOT + "/v1/xorbs/{prefix}/{digest}")
async def receive_xorb(request: Request, sender: Sender, pot: Pot, prefix: str, digest: str) -> dict[str, bool]:
    """Keep a xorb, which must have the hash that its address says; whether this sender had not sent it before."""
    if prefix != PREFIX or not is_text(digest):
        found = f"{prefix}/{digest}"[:200]
        raise InputError(
            "not a xorb's address", where="path", found=found, expected="default/ and a hash in lower case"
        )
    _check_body(request, xorb.MOST_BYTES)
    with await run_in_threadpool(pot.blobs.open_upload, None, declared_length(request)) as upload:
        await pour(request, upload.write, 0, xorb.MOST_BYTES)
        return {"was_inserted": await run_in_threadpool(_kept, pot, sender, upload, digest)}


@router.post(ROOT + "/v1/shards")
async def receive_shard(request: Request, sender: Sender, pot: Pot) -> dict[str, int]:
    """Make the files of a shard blobs, and answer when all are."""
    with await _spooled(request, pot) as spooled:
        await run_in_threadpool(deque, assemble(pot, sender, spooled), 0)
    return {"result": 1}


@router.post(ROOT + "/v2/shards")
async def receive_shard_and_tell(request: Request, sender: Sender, pot: Pot) -> StreamingResponse:
    """The same, with frames on the way: a long wait is no silence, and the client shows what went wrong."""
    spooled = await _spooled(request, pot)
    return StreamingResponse(_frames(pot, sender, spooled), media_type="application/x-ndjson")


def _kept(pot: Services, sender: Token, upload: Upload, digest: str) -> bool:
    check = partial(xorb.check_xorb, expected=digest)
    found, size = upload.finish(check, partial(pot.store.announce_blob, owner=sender))
    return pot.store.keep_xorb(digest, found, size, sender)


async def _spooled(request: Request, pot: Services) -> IO[bytes]:
    """The body as a file, which is on the disk when it is large."""
    _check_body(request, shard.MOST_BYTES)
    pot.settings.uploads.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        spooled = stack.enter_context(SpooledTemporaryFile(max_size=PIECE_BYTES, dir=str(pot.settings.uploads)))
        await pour(request, spooled.write, 0, shard.MOST_BYTES)
        stack.pop_all()
    return spooled


def _frames(pot: Services, sender: Token, spooled: IO[bytes]) -> Iterator[bytes]:
    told = time.monotonic()
    with spooled:
        try:
            for done, total in assemble(pot, sender, spooled):
                if time.monotonic() - told >= BETWEEN_FRAMES_S:
                    told = time.monotonic()
                    yield _frame(type="validating", verified=done, total=total)
        except StockpotError as error:
            yield _frame(type="error", message=str(error), retryable=False)
        else:
            yield _frame(type="result")


def _frame(**content: str | int) -> bytes:
    return json.dumps(content).encode() + b"\n"


def _check_body(request: Request, most: int) -> None:
    refuse_encoding(request)
    check_limit(declared_length(request) or 0, most)
