"""Safetensors files being written: complete under their final names, or not there at all."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from merge_core.layout import Shard

PARTIAL = ".partial"


class Sink:
    """Open shards of one output folder; tensors arrive in any order, from any thread.

    `commit` makes every file durable (fsync, unless `durable` is false) and gives it its final name. Leaving
    the context without it removes the partial files.
    """

    def __init__(self, folder: Path, shards: Iterable[Shard], *, durable: bool = True) -> None:
        self._folder = folder
        self._durable = durable
        self._descriptors: dict[str, int] = {}
        self._places: dict[str, tuple[int, int]] = {}
        self._shards = tuple(shards)

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
        descriptor, start = self._places[tensor]
        view = memoryview(data.view(np.uint8).data).cast("B")
        position = start + byte_offset
        while view:
            written = os.pwrite(descriptor, view, position)
            view, position = view[written:], position + written

    def commit(self, extra: Mapping[str, bytes]) -> list[Path]:
        """Finish the shards, write the `extra` files beside them, and return the paths of all."""
        for name, content in extra.items():
            self._write_small(name, content)
        names = [*extra, *(shard.name for shard in self._shards)]
        for name in names:
            self._finish(name)
        if self._durable:
            _sync_folder(self._folder)
        return [self._folder / name for name in names]

    def _open(self, shard: Shard) -> None:
        descriptor = self._create(shard.name)
        os.ftruncate(descriptor, shard.nbytes)
        os.pwrite(descriptor, shard.header, 0)
        self._places.update({slot.spec.name: (descriptor, slot.offset) for slot in shard.slots})

    def _write_small(self, name: str, content: bytes) -> None:
        (self._folder / name).parent.mkdir(parents=True, exist_ok=True)
        descriptor = self._create(name)
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]

    def _create(self, name: str) -> int:
        path = self._partial(name)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        self._descriptors[name] = descriptor
        return descriptor

    def _finish(self, name: str) -> None:
        descriptor = self._descriptors[name]
        if self._durable:
            os.fsync(descriptor)
        os.close(self._descriptors.pop(name))
        self._partial(name).replace(self._folder / name)

    def _discard(self) -> None:
        while self._descriptors:
            name, descriptor = self._descriptors.popitem()
            os.close(descriptor)
            self._partial(name).unlink(missing_ok=True)

    def _partial(self, name: str) -> Path:
        return self._folder / (name + PARTIAL)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
