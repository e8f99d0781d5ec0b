"""Safetensors files being written: complete under their final names, or not there at all."""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, EINVAL, ENOSPC, EOPNOTSUPP
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from merge_core.errors import CapacityError
from merge_core.layout import Shard

PARTIAL = ".partial"


class Sink:
    """Open shards of one output folder; tensors arrive in any order, from any thread.

    `commit` makes every file durable (fsync, unless `durable` is false) and gives it its final name. Leaving
    the context without it removes the partial files. Raises CapacityError where a file finds no room.
    """

    def __init__(self, folder: Path, shards: Iterable[Shard], *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable
        self._descriptors: dict[str, int] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._shards = tuple(shards)
        self._made: list[Path] = []

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            for shard in self._shards:
                self._open(shard)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def write(self, tensor: str, byte_offset: int, data: NDArray[Any]) -> None:
        """Write contiguous `data` at `byte_offset` within the tensor."""
        name, start = self._places[tensor]
        self._write_at(name, start + byte_offset, memoryview(data.view(np.uint8).data).cast("B"))

    def commit(self, extra: Mapping[str, bytes]) -> list[Path]:
        """Finish the shards, write the `extra` files beside them, and return the paths of all.

        Nothing has its final name before everything is written; what names the others, the index, has it last.
        """
        for name, content in extra.items():
            self._write_small(name, content)
        names = [shard.name for shard in self._shards] + sorted(extra, key=lambda name: name.endswith(".index.json"))
        if self._durable:
            self._sync(names)
        for name in names:
            self._publish(name)
        if self._durable:
            for folder in {(self._folder / name).parent for name in names}:
                _sync_folder(folder)
        return [self._folder / name for name in names]

    def _open(self, shard: Shard) -> None:
        self._create(shard.name)
        with room(shard.name):
            _reserve(self._descriptors[shard.name], shard.nbytes)
        self._write_at(shard.name, 0, memoryview(shard.header))
        self._places.update({slot.spec.name: (shard.name, slot.offset) for slot in shard.slots})

    def _write_small(self, name: str, content: bytes) -> None:
        self._make_folder((self._folder / name).parent)
        self._create(name)
        self._write_at(name, 0, memoryview(content))

    def _make_folder(self, folder: Path) -> None:
        if not folder.exists():
            self._make_folder(folder.parent)
            folder.mkdir(exist_ok=True)
            self._made.append(folder)

    def _create(self, name: str) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with room(name):
            self._descriptors[name] = os.open(self._partial(name), flags, 0o644)

    def _write_at(self, name: str, position: int, view: memoryview) -> None:
        with room(name):
            while view:
                written = os.pwrite(self._descriptors[name], view, position)
                view, position = view[written:], position + written

    def _sync(self, names: Iterable[str]) -> None:
        for name in names:
            with room(name):
                os.fsync(self._descriptors[name])

    def _publish(self, name: str) -> None:
        self._partial(name).replace(self._folder / name)
        os.close(self._descriptors.pop(name))

    def _discard(self) -> None:
        while self._descriptors:
            name, descriptor = self._descriptors.popitem()
            os.close(descriptor)
            self._partial(name).unlink(missing_ok=True)
        while self._made:
            with suppress(OSError):  # somebody else has put a file there
                self._made.pop().rmdir()

    def _partial(self, name: str) -> Path:
        return self._folder / (name + PARTIAL)


def _reserve(descriptor: int, nbytes: int) -> None:
    """Give the file its length, with blocks behind it where the system can.

    Reserved at once, a full disk is found before any work is done, and each write is two to four times as cheap.
    """
    try:
        os.posix_fallocate(descriptor, 0, nbytes)
    except OSError as error:
        if error.errno not in (EOPNOTSUPP, EINVAL):
            raise
        os.ftruncate(descriptor, nbytes)


@contextmanager
def room(name: str) -> Iterator[None]:
    """A full disk, a spent quota or a file beyond its limit as CapacityError; other faults as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in (ENOSPC, EDQUOT, EFBIG):
            raise
        raise CapacityError("there is no room for the file", where=name, found=error.strerror) from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
