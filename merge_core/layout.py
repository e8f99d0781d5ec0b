"""Where every output tensor will lie, known before a weight is read: shards, headers, offsets."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from merge_core.tensors import TensorSpec

ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor's place in a shard; `offset` is absolute in the file."""

    spec: TensorSpec
    offset: int


@dataclass(frozen=True, slots=True)
class Shard:
    """One output file: its name, its header bytes (length prefix included) and its slots."""

    name: str
    header: bytes
    slots: tuple[Slot, ...]
    nbytes: int


def lay_out(
    specs: Iterable[TensorSpec], max_shard_bytes: int, metadata: Mapping[str, str], stem: str = "model"
) -> tuple[Shard, ...]:
    """Place tensors in files of at most `max_shard_bytes` of data, by wide types first, then by name.

    Wide types first keeps every tensor aligned to its element size. Always at least one file.
    """
    ordered = sorted(specs, key=lambda spec: (-spec.dtype.itemsize, spec.name))
    groups = list(_fill(ordered, max_shard_bytes)) or [[]]
    names = _file_names(len(groups), stem)
    return tuple(_shard(name, group, metadata) for name, group in zip(names, groups, strict=True))


def index_json(shards: tuple[Shard, ...]) -> bytes | None:
    """`model.safetensors.index.json` as transformers reads it; None for a single file."""
    if len(shards) == 1:
        return None
    placement = {slot.spec.name: shard.name for shard in shards for slot in shard.slots}
    total = sum(slot.spec.nbytes for shard in shards for slot in shard.slots)
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(placement.items()))}
    return (json.dumps(content, indent=2) + "\n").encode()


def _fill(specs: list[TensorSpec], most: int) -> Iterator[list[TensorSpec]]:
    group: list[TensorSpec] = []
    size = 0
    for spec in specs:
        if group and size + spec.nbytes > most:
            yield group
            group, size = [], 0
        group.append(spec)
        size += spec.nbytes
    if group:
        yield group


def _file_names(count: int, stem: str) -> list[str]:
    if count == 1:
        return [f"{stem}.safetensors"]
    return [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]


def _shard(name: str, specs: list[TensorSpec], metadata: Mapping[str, str]) -> Shard:
    starts = [0]
    for spec in specs:
        starts.append(starts[-1] + spec.nbytes)
    header = _header(specs, starts, metadata)
    slots = tuple(Slot(spec, len(header) + start) for spec, start in zip(specs, starts, strict=False))
    return Shard(name, header, slots, len(header) + starts[-1])


def _header(specs: list[TensorSpec], starts: list[int], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    for spec, begin, end in zip(specs, starts, starts[1:], strict=False):
        entries[spec.name] = {"dtype": spec.dtype.code, "shape": list(spec.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    padding = b" " * (-len(text) % ALIGNMENT)
    return (len(text) + len(padding)).to_bytes(8, "little") + text + padding
