"""A ternary file being written: bitplanes wait in a scratch file until every tensor's value and count are known."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kernels.gap_code import BLOCK, encode
from kernels.ternary import Planes, pack, plane_bytes, tally
from merge_core.deltas.ternary import Form
from merge_core.formats.ternary import FILE, Entry, part_specs, ternary_metadata
from merge_core.layout import Shard, lay_out
from merge_core.outputs.scratch import ScratchSink
from merge_core.sink import Sink, room
from merge_core.stored import StoredTensor
from merge_core.tensors import TensorSpec

COPIED = 1 << 20
PACKED = 1 << 16
"""Elements packed at a time: a multiple of 8, so that no byte is shared within a chunk."""
WRITE_BYTES = max(COPIED, 2 * 4 * PACKED)
"""A part that is copied; or magnitudes, and values that begin within a byte."""

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A tensor as it is computed, what the base has of it, and how it is written: ternary around `center`, or whole."""

    spec: TensorSpec
    base: StoredTensor | None
    is_ternary: bool
    center: float = 0.0

    @property
    def scratch_bytes(self) -> int:
        return 2 * plane_bytes(self.spec.size) if self.is_ternary else self.spec.nbytes


LayOut = Callable[[Mapping[str, Entry], Mapping[str, int]], Shard]
"""From the entries of the ternary tensors that are written, and the bytes of their blocks, to the file."""


def lay_out_ternary(
    entries: Mapping[str, Entry],
    coded: Mapping[str, int],
    *,
    targets: Mapping[str, Target],
    form: Form,
    of: str,
    metadata: Mapping[str, str],
    whole: Iterable[str] | None = None,
) -> Shard:
    """The one file with these entries, and the `whole` tensors: all of them unless some are named."""
    kept = [name for name, target in targets.items() if not target.is_ternary] if whole is None else whole
    specs = [targets[name].spec for name in kept]
    specs += [spec for name, entry in entries.items() for spec in part_specs(name, entry.shape, form, coded[name])]
    full = {**metadata, **ternary_metadata(form, of, entries)}
    [shard] = lay_out(specs, 2**63, full, FILE.removesuffix(".safetensors"))
    return shard


class TernarySink(ScratchSink):
    """An output folder that gets one ternary file: of each float32 tensor of ±v and 0 the signs, and v."""

    def __init__(
        self,
        folder: Path,
        shards: Iterable[Shard],
        durable: bool,
        *,
        targets: Mapping[str, Target],
        form: Form,
        lay_out: Callable[..., Shard],
        errors: Callable[[], Mapping[str, float]],
    ) -> None:
        super().__init__(folder, durable, FILE)
        self._targets, self._form, self._lay_out, self._errors = targets, form, lay_out, errors
        self._starts = _starts(targets)
        self._values = dict.fromkeys(targets, 0.0)
        self._counts = dict.fromkeys(targets, 0)
        self._differs = {name for name, target in targets.items() if not target.is_ternary and target.base is None}
        self._edges: dict[int, int] = {}

    def __enter__(self) -> Self:
        super().__enter__()
        self._coded = self._nameless()
        return self

    def write(self, tensor: str, byte_offset: int, data: NDArray[Any]) -> None:
        """Take contiguous `data` at `byte_offset` within the tensor."""
        target = self._targets[tensor]
        if not target.is_ternary:
            self._write_whole(target, byte_offset, data.view(np.uint8).reshape(-1))
            return
        values, first = data.reshape(-1), byte_offset // target.spec.dtype.itemsize
        for start in range(0, values.size, PACKED):
            self._write_signs(target, first + start, values[start : start + PACKED])

    def commit(self, extra: Mapping[str, bytes]) -> list[Path]:
        """Lay out what is not zero, write it with the `extra` files, and return the paths of all."""
        for position, bits in self._edges.items():
            self._put_at(position, np.array([bits], dtype=np.uint8))
        entries = {name: self._entry(name) for name, target in self._targets.items() if self._is_needed(target)}
        sizes = {name: self._encode(name) for name in entries} if self._form == "cold" else {}
        coded = {name: int(sizes[name].sum()) if sizes else 0 for name in entries}
        shard = self._lay_out(entries, coded, whole=sorted(self._differs))
        with Sink(self._folder, [shard], durable=self._durable) as sink:
            for name in sorted(self._differs):
                self._copy(self._scratch, self._starts[name], self._targets[name].spec, sink)
            position = 0
            for name, entry in entries.items():
                parts = part_specs(name, entry.shape, self._form, coded[name])
                if self._form == "cold":
                    sink.write(parts[0].name, 0, sizes[name].astype("<u2"))
                    self._copy(self._coded, position, parts[1], sink)
                    position += parts[1].nbytes
                else:
                    for place, part in enumerate(parts):
                        self._copy(self._scratch, self._starts[name] + place * part.nbytes, part, sink)
            return sink.commit(extra)

    def _is_needed(self, target: Target) -> bool:
        """An adapter is not read without all of its tensors; a weight without entries is as in the base."""
        return target.is_ternary and (target.base is None or self._counts[target.spec.name] > 0)

    def _entry(self, name: str) -> Entry:
        target = self._targets[name]
        return Entry(target.spec.shape, self._values[name], self._counts[name], target.center, self._errors().get(name))

    def _write_whole(self, target: Target, byte_offset: int, raw: Bytes) -> None:
        self._put_at(self._starts[target.spec.name] + byte_offset, raw)
        base = target.base
        if base is not None and not np.array_equal(raw, base.data[byte_offset : byte_offset + raw.size]):
            with self._lock:
                self._differs.add(target.spec.name)

    def _write_signs(self, target: Target, first: int, values: NDArray[np.float32]) -> None:
        """Pack values from element `first` on; bytes that others have a part in are put together at the end."""
        name, lead = target.spec.name, first % 8
        planes = pack(np.concatenate([np.zeros(lead, np.float32), values]) if lead else values)
        found = tally(planes)
        used = -(-(lead + values.size) // 8)
        is_last = first + values.size == target.spec.size
        begin, end = int(lead > 0), used - int((lead + values.size) % 8 > 0 and not is_last)
        with self._lock:
            self._counts[name] += found.positive + found.negative
            self._values[name] = max(self._values[name], float(np.abs(values).max(initial=0.0)))
        for place, plane in enumerate(planes[:2]):
            position = self._starts[name] + place * plane_bytes(target.spec.size) + first // 8
            self._put_at(position + begin, plane[begin:end])
            with self._lock:
                for edge in {0, used - 1} - set(range(begin, end)):
                    self._edges[position + edge] = self._edges.get(position + edge, 0) | int(plane[edge])

    def _encode(self, name: str) -> NDArray[np.uint16]:
        """Append the blocks of a tensor to the other scratch file; their sizes."""
        return np.array([self._append(block) for block in self._blocks(name)], dtype=np.uint16)

    def _blocks(self, name: str) -> Iterator[Bytes]:
        size, length = self._targets[name].spec.size, plane_bytes(self._targets[name].spec.size)
        for start in range(0, size, BLOCK):
            elements = min(BLOCK, size - start)
            position = self._starts[name] + start // 8
            yield encode(Planes(self._read(position, elements), self._read(position + length, elements)), elements)

    def _read(self, position: int, elements: int) -> Bytes:
        """So many bits of a plane, and zeros up to a whole word: what was never written reads as nothing."""
        plane = np.zeros(plane_bytes(elements), dtype=np.uint8)
        content = os.pread(self._scratch.fileno(), plane.size, position)
        plane[: len(content)] = np.frombuffer(content, dtype=np.uint8)
        return plane

    def _append(self, block: Bytes) -> int:
        with room(FILE):
            self._coded.write(block.data)
        return block.size

    def _copy(self, source: Any, position: int, spec: TensorSpec, sink: Sink) -> None:
        source.flush()
        for done in range(0, spec.nbytes, COPIED):
            part = np.zeros(min(COPIED, spec.nbytes - done), dtype=np.uint8)
            content = os.pread(source.fileno(), part.size, position + done)
            part[: len(content)] = np.frombuffer(content, dtype=np.uint8)
            sink.write(spec.name, done, part)


def _starts(targets: Mapping[str, Target]) -> dict[str, int]:
    """Where each tensor lies in the scratch file."""
    ends = np.cumsum([0, *(target.scratch_bytes for target in targets.values())]).tolist()
    return dict(zip(targets, ends, strict=False))
