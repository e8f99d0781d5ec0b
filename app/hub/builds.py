"""Builds under way, followed once for all clients that wait for their files."""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from app.api.services import Services
from app.store.records import Composition, PlannedFile, Ready
from app.store.unbuilt import BuildProgress, ShardProgress
from merge_core.errors import NotFoundError
from merge_core.sink import PARTIAL

POLL_S = 0.25
LINGER_S = 30.0
"""A client that was cut off and comes back soon finds what was known, though a worker may have begun anew since."""


class OpenFile:
    """A file of a worker, readable even after its name is gone; closed when nobody has it any more."""

    def __init__(self, path: Path) -> None:
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        with suppress(AttributeError):  # it could not be opened
            os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Growing:
    """What can be read of a shard: the header, or `nbytes` of a worker's file; all of it once it is the blob `sha256`.

    Another attempt makes the same bytes: what was known of an earlier one stays good until this one is further.
    """

    header: bytes
    file: OpenFile | None = None
    place: str = ""
    nbytes: int = 0
    sha256: str | None = None

    @property
    def known(self) -> int:
        """Bytes from the start."""
        return max(len(self.header), self.nbytes)

    def read(self, start: int, stop: int) -> bytes:
        """Some of the known bytes from `start` on."""
        if start < len(self.header):
            return self.header[start:stop]
        assert self.file is not None, "beyond the header only a file is known"
        return os.pread(self.file.descriptor, stop - start, start)

    def grown(self, data: Path, ready: Ready) -> "Growing":
        """With what a worker tells; the same where it is no further, or its files are on another machine."""
        if ready.nbytes <= self.nbytes:
            return self
        file = self.file if ready.place == self.place else _opened(data / ready.place)
        return self if file is None else Growing(self.header, file, ready.place, ready.nbytes)


@dataclass
class Build:
    """One composition under way; `progress` is None when it is gone, and before anybody has looked."""

    composition: Composition
    progress: BuildProgress | None = None
    shards: dict[int, Growing] = field(default_factory=dict)
    looked: asyncio.Event = field(default_factory=asyncio.Event)
    clients: int = 0
    joining: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_over(self) -> bool:
        """True when nothing will change any more."""
        return self.progress is None or self.progress.state in ("done", "failed", "cancelled")

    def is_lost(self, name: str) -> bool:
        """True when the repo `name` will not get the files."""
        progress = self.progress
        return progress is None or progress.state in ("failed", "cancelled") or name not in progress.names

    def tell(self) -> None:
        """Wake whoever waits."""
        self.changed.set()
        self.changed = asyncio.Event()


class Builds:
    """The builds that somebody waits for, each looked at a few times a second however many they are."""

    def __init__(self, pot: Services) -> None:
        self._pot = pot
        self._builds: dict[str, Build] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def following(self, composition: Composition, file: PlannedFile) -> AsyncIterator[Build]:
        """The build, kept up to date as to this file for as long as the context lasts."""
        build = self._builds.get(composition.id)
        if build is None:
            build = self._builds[composition.id] = Build(composition)
            task = asyncio.create_task(self._follow(build))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        build.clients += 1
        try:
            await self._join(build, file)
            yield build
        finally:
            build.clients -= 1

    async def _join(self, build: Build, file: PlannedFile) -> None:
        """Have the file looked at, at least once from now on."""
        assert file.shard is not None, "only shards are built"
        build.joining += 1  # nobody stops looking meanwhile
        try:
            if file.shard not in build.shards:
                build.shards.setdefault(file.shard, Growing(await run_in_threadpool(self._header, file)))
                build.looked.clear()
            await build.looked.wait()
        finally:
            build.joining -= 1

    async def _follow(self, build: Build) -> None:
        """Look until it is over, or nobody has waited for a while."""
        idle_s = 0.0
        try:
            while build.joining or (idle_s < LINGER_S and not build.is_over):
                with suppress(SQLAlchemyError):  # the database is away: what was known stays so
                    await self._look(build)
                await asyncio.sleep(POLL_S)
                idle_s = 0.0 if build.clients else idle_s + POLL_S
        finally:
            del self._builds[build.composition.id]

    async def _look(self, build: Build) -> None:
        progress, shards = await run_in_threadpool(self._seen, build.composition, dict(build.shards))
        if (progress, shards) != (build.progress, build.shards):
            build.progress = progress
            build.shards.update(shards)
            build.tell()
        build.looked.set()

    def _seen(
        self, composition: Composition, shards: Mapping[int, Growing]
    ) -> tuple[BuildProgress | None, dict[int, Growing]]:
        progress = self._pot.store.build_progress(composition)
        made = {} if progress is None else progress.shards
        return progress, {number: self._grown(known, made.get(number)) for number, known in shards.items()}

    def _grown(self, known: Growing, made: ShardProgress | None) -> Growing:
        if made is None:
            return known
        if made.sha256 is not None:
            return replace(known, sha256=made.sha256)
        return known if made.ready is None else known.grown(self._pot.settings.data, made.ready)

    def _header(self, file: PlannedFile) -> bytes:
        with suppress(NotFoundError):  # the build is over, and the header is where the shard is
            return b"".join(self._pot.blobs.read(file.sha256, file.start, file.start + file.known))
        return b""


def _opened(path: Path) -> OpenFile | None:
    """A worker's file under the name that it has until it is complete, or after; None where it cannot be read here."""
    for name in (path.with_name(path.name + PARTIAL), path):
        with suppress(OSError):
            return OpenFile(name)
    return None
