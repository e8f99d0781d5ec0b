"""One step of an upload, or of a removal, in a process that then waits to be killed: `python -m … STEP ARGUMENT`."""

import sys
from functools import partial
from typing import NoReturn

from app.settings import Settings
from app.store.blobs import Blobs
from app.store.records import EVERYBODY
from app.store.store import Store

CONTENT = b"bytes that are on their way " * 1000


def wait_for_the_end(*_arguments: object) -> NoReturn:
    print("here", flush=True)
    sys.stdin.read()
    raise AssertionError("nobody has killed this process")


def main(step: str, sha256: str) -> None:
    settings = Settings.from_environment()
    store, blobs = Store(settings.database_url), Blobs(settings)
    if step == "removed":

        def remove(digest: str) -> None:
            blobs.delete(digest)
            wait_for_the_end()

        store.collect_blob(sha256, remove)
    announce = partial(store.announce_blob, owner=EVERYBODY)
    with blobs.open_upload() as upload:
        upload.write(CONTENT)
        if step == "written":
            wait_for_the_end()
        if step == "announced":
            upload.finish(announce=lambda digest, size: wait_for_the_end(announce(digest, size)))
        upload.finish(announce=announce)
        wait_for_the_end()


if __name__ == "__main__":
    main(*sys.argv[1:])
