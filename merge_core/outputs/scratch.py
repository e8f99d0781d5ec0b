"""What sinks have in common that cannot lay out their file before every tensor is there."""

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from merge_core.sink import room


class ScratchSink:
    """An output folder with a nameless file in it, gone when the context is left; errors call it `name`."""

    def __init__(self, folder: Path, durable: bool, name: str) -> None:
        self._folder, self._durable, self._name = folder, durable, name
        self._lock = Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._scratch = self._nameless()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def _nameless(self) -> IO[bytes]:
        with room(self._name):
            return self._open.enter_context(tempfile.TemporaryFile(dir=self._folder))

    def _put_at(self, position: int, data: NDArray[Any]) -> int:
        """Write an array's bytes; where they end."""
        view = memoryview(np.ascontiguousarray(data).view(np.uint8).data).cast("B")
        with room(self._name):
            while view:
                written = os.pwrite(self._scratch.fileno(), view, position)
                view, position = view[written:], position + written
        return position
