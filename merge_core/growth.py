"""How far files that are being written are complete from their start: so far they can be read already."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from numpy.typing import NDArray

from merge_core.layout import Shard
from merge_core.outputs import OutputSink


class Growth:
    """What has been written of each file, told by any thread in any order.

    Only for shards whose headers are final when they are planned: see `Plan.is_foreseen`.
    """

    def __init__(self, shards: Iterable[Shard]) -> None:
        listed = tuple(shards)
        self._places = {slot.spec.name: (shard.name, slot.offset) for shard in listed for slot in shard.slots}
        self._begun = {shard.name: len(shard.header) for shard in listed}
        self._ready = dict.fromkeys(self._begun, 0)
        self._beyond: dict[str, dict[int, int]] = {shard.name: {} for shard in listed}
        self._lock = Lock()

    def ready(self, file: str) -> int:
        """Bytes from the file's start without a gap."""
        with self._lock:
            return self._ready[file]

    def begin(self) -> None:
        """The headers are written."""
        with self._lock:
            self._ready.update(self._begun)

    def wrote(self, tensor: str, byte_offset: int, nbytes: int) -> None:
        """These bytes of a tensor are in the file. No byte is told twice."""
        if not nbytes:
            return
        file, offset = self._places[tensor]
        start = offset + byte_offset
        with self._lock:
            beyond = self._beyond[file]
            beyond[start] = start + nbytes
            # Runs of bytes do not overlap: the next one begins where the last has ended.
            while (end := beyond.pop(self._ready[file], None)) is not None:
                self._ready[file] = end


class GrowingSink:
    """A sink that tells what it has written."""

    def __init__(self, sink: OutputSink, growth: Growth) -> None:
        self._sink, self._growth = sink, growth

    def __enter__(self) -> Self:
        self._sink.__enter__()
        self._growth.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.__exit__(kind, error, trace)

    def write(self, tensor: str, byte_offset: int, data: NDArray[Any]) -> None:
        """Write, then say so: whoever hears of the bytes finds them."""
        self._sink.write(tensor, byte_offset, data)
        self._growth.wrote(tensor, byte_offset, data.nbytes)

    def commit(self, extra: Mapping[str, bytes]) -> list[Path]:
        """As the sink does."""
        return self._sink.commit(extra)
