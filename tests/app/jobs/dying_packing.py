"""A packing job in a process that waits to be killed at some step: `python -m … STEP JOB`."""

import sys
from collections.abc import Callable
from typing import Any, NoReturn

from app.jobs.lease import Lease
from app.jobs.packing import pack_files
from app.jobs.perform import Work
from app.settings import Settings
from app.store.blobs import Blobs
from app.store.records import Json
from app.store.store import Store


def wait_for_the_end(*_arguments: object) -> NoReturn:
    print("here", flush=True)
    sys.stdin.read()
    raise AssertionError("nobody has killed this process")


class DyingStore(Store):
    """Dies where the step says."""

    step = ""

    def record_packing(self, *arguments: Any, install: Callable[[], None], **named: Any) -> None:
        if self.step == "written":
            wait_for_the_end()
        super().record_packing(
            *arguments, install=self._then_die(install) if self.step == "installed" else install, **named
        )

    def finish(self, job_id: str, token: str, result: Json) -> None:
        wait_for_the_end()

    def _then_die(self, install: Callable[[], None]) -> Callable[[], None]:
        return lambda: wait_for_the_end(install())


def drop(store: Store, blobs: Blobs) -> None:
    """Die between the removal of the bytes and its record."""
    shelf = blobs.packing_shelf
    assert shelf is not None
    for sha256 in store.whole_packings():
        store.drop_plain(sha256, lambda digest: wait_for_the_end(shelf.drop_plain(digest, -1.0)))


def main(step: str, job_id: str) -> None:
    settings = Settings.from_environment()
    store, blobs = DyingStore(settings.database_url), Blobs(settings)
    store.step = step
    if step == "dropped":
        drop(store, blobs)
    token, job = store.claim(job_id), store.get_job(job_id)
    assert token is not None
    assert job is not None
    pack_files(Work(settings, store, blobs, Lease(store, job, token)))


if __name__ == "__main__":
    main(*sys.argv[1:])
