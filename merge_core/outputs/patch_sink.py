"""A patch being written: chunks are compared with the base as they come, what differs waits in a scratch file.

Tensors are put in order when all are there, so that the bytes do not depend on who came first.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from merge_core.formats.patch import FILE, INDICES, METADATA, VALUES, patch_metadata
from merge_core.layout import Shard, lay_out
from merge_core.outputs.scratch import ScratchSink
from merge_core.sink import Sink
from merge_core.stored import StoredTensor
from merge_core.tensors import DType, TensorSpec

Form = Literal["entries", "whole"]

COPIED = 1 << 20
COMPARED = 1 << 16
"""Elements compared at a time, so that what differs is held in little memory, however large a piece is written."""
WRITE_BYTES = max(COPIED, COMPARED * (1 + 8 + 8 + 8))
"""Where they differ, at which places, those once more as they are stored, and the values there."""
WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Elements are compared as bits: -0.0 is not 0.0 here, and one NaN is another only with the same bits."""


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A tensor, what the base has of it, and how it is written where the two differ."""

    spec: TensorSpec
    base: StoredTensor | None
    form: Form

    @property
    def indices(self) -> TensorSpec:
        """Where indices fit in int32 they are; of no length yet."""
        dtype = DType.I32 if self.spec.size <= np.iinfo(np.int32).max else DType.I64
        return TensorSpec(self.spec.name + INDICES, dtype, (0,))

    def specs(self, count: int) -> list[TensorSpec]:
        """What the file holds of the tensor when `count` of its elements are stored."""
        if self.form == "whole":
            return [self.spec]
        indices = TensorSpec(self.indices.name, self.indices.dtype, (count,))
        return [indices, TensorSpec(self.spec.name + VALUES, self.spec.dtype, (count,))]


def lay_out_patch(stored: Iterable[tuple[Target, int]], metadata: Mapping[str, str]) -> Shard:
    """The one file of a patch that holds so many elements of each target."""
    held = list(stored)
    shapes = {target.spec.name: target.spec.shape for target, _ in held if target.form == "entries"}
    specs = [spec for target, count in held for spec in target.specs(count)]
    [shard] = lay_out(specs, 2**63, {**metadata, METADATA: patch_metadata(shapes)}, FILE.removesuffix(".safetensors"))
    return shard


@dataclass(frozen=True, slots=True)
class _Part:
    """Bytes in the scratch file, of the tensor `name` as the patch calls it; `start` puts parts in order."""

    name: str
    start: int
    position: int
    nbytes: int


class PatchSink(ScratchSink):
    """An output folder that gets one patch: the entries, or tensors, that differ from the base's bits."""

    def __init__(
        self,
        folder: Path,
        shards: Iterable[Shard],
        durable: bool,
        *,
        targets: Mapping[str, Target],
        metadata: Mapping[str, str],
    ) -> None:
        super().__init__(folder, durable, FILE)
        self._targets, self._metadata = targets, metadata
        self._parts: list[_Part] = []
        # A tensor that is new is written though it may be empty.
        self._counts = {name: 0 for name, target in targets.items() if target.base is None}
        self._end = 0

    def write(self, tensor: str, byte_offset: int, data: NDArray[Any]) -> None:
        """Take contiguous `data` at `byte_offset` within the tensor, and keep what differs."""
        target = self._targets[tensor]
        raw = data.view(np.uint8).reshape(-1)
        length = COMPARED * target.spec.dtype.itemsize
        keep = self._keep_entries if target.form == "entries" else self._keep_whole
        for start in range(0, raw.size, length):
            keep(target, byte_offset + start, raw[start : start + length])

    def commit(self, extra: Mapping[str, bytes]) -> list[Path]:
        """Lay out what was kept, write it with the `extra` files, and return the paths of all."""
        stored = [
            (target, self._counts[name]) for name, target in self._targets.items() if self._counts.get(name, -1) >= 0
        ]
        shard = lay_out_patch(stored, self._metadata)
        names = {slot.spec.name for slot in shard.slots}
        with Sink(self._folder, [shard], durable=self._durable) as sink:
            offsets = dict.fromkeys(names, 0)
            for part in sorted(self._parts, key=lambda part: (part.name, part.start)):
                if part.name in names:
                    offsets[part.name] = self._copy(part, offsets[part.name], sink)
            return sink.commit(extra)

    def _keep_entries(self, target: Target, byte_offset: int, raw: NDArray[np.uint8]) -> None:
        assert target.base is not None, "a tensor that the base lacks is written whole"
        word = WORDS[target.spec.dtype.itemsize]
        new, old = raw.view(word), target.base.data[byte_offset : byte_offset + raw.size].view(word)
        places = np.flatnonzero(new != old)
        if places.size:
            start = byte_offset // target.spec.dtype.itemsize
            indices = (places + start).astype(target.indices.dtype.label)
            with self._lock:
                self._put(target.spec.name + INDICES, start, indices)
                self._put(target.spec.name + VALUES, start, new[places])
                self._count(target, places.size)

    def _keep_whole(self, target: Target, byte_offset: int, raw: NDArray[np.uint8]) -> None:
        is_same = target.base is not None and np.array_equal(
            raw, target.base.data[byte_offset : byte_offset + raw.size]
        )
        with self._lock:
            self._put(target.spec.name, byte_offset, raw)
            if not is_same:
                self._count(target, raw.size)

    def _count(self, target: Target, count: int) -> None:
        self._counts[target.spec.name] = self._counts.get(target.spec.name, 0) + count

    def _put(self, name: str, start: int, data: NDArray[Any]) -> None:
        self._parts.append(_Part(name, start, self._end, data.nbytes))
        self._end = self._put_at(self._end, data)

    def _copy(self, part: _Part, offset: int, sink: Sink) -> int:
        for done in range(0, part.nbytes, COPIED):
            content = os.pread(self._scratch.fileno(), min(COPIED, part.nbytes - done), part.position + done)
            sink.write(part.name, offset + done, np.frombuffer(content, dtype=np.uint8))
        return offset + part.nbytes
