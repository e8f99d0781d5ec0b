"""A recipe resolved against headers: every output tensor, byte offset, input, memory need and error.

No weight is read; only headers, configs and small integer tensors are.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from merge_core.chat_templates import with_template
from merge_core.deltas import reads_of
from merge_core.errors import CapacityError, RecipeError
from merge_core.layout import Shard, Slot
from merge_core.methods.contract import Reads
from merge_core.outputs import ARRANGE, OpenSink, Wish
from merge_core.planning.factors import Built, Factors, merge_of
from merge_core.planning.inputs import Inputs, plan_recipe
from merge_core.planning.memory import blocks_bytes, shared_need
from merge_core.planning.tensors import Copy, Merge
from merge_core.recipe import Recipe
from merge_core.sources import Resolve
from merge_core.tensors import row_size
from merge_core.tied_head import check_head
from merge_core.tokenizers import with_tokenizer
from merge_core.vocabulary import speaker, with_vocabulary

ENGINE = "2"
"""Raised when the same recipe over the same inputs would give other bytes."""

MOST_SHARDS = 800
"""Every shard is open while it is written, and 1024 open files is what a process often has."""

CHUNK = 1 << 18
"""Elements that an element-wise method sees at once: so many that writing them is cheap, few enough for the caches."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be built, to the byte. `digest` names the result: equal digests, equal files.

    `marks` tell the content of the inputs' files, as far as it is known without reading them. `is_foreseen` where the
    files will be these and of these sizes, side files and headers as they are here.
    """

    recipe: Recipe
    tensors: Mapping[str, Built]
    shards: tuple[Shard, ...]
    side_files: Mapping[str, bytes]
    warnings: tuple[str, ...]
    digest: str
    open_sink: OpenSink
    write_bytes: int = 0
    marks: Mapping[Path, str] = field(default_factory=dict)
    is_foreseen: bool = False

    @property
    def total_bytes(self) -> int:
        return sum(shard.nbytes for shard in self.shards)

    @property
    def memory_bytes(self) -> int:
        """What a build on one thread needs beyond the mapped inputs; each further thread needs no more than that."""
        most = max((memory_need(tensor) for tensor in self.tensors.values()), default=0)
        return most + self.write_bytes + shared_need(self.tensors.values())

    def describe(self) -> dict[str, Any]:
        """The plan as JSON-ready data."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "digest": self.digest,
            "total_bytes": self.total_bytes,
            "memory_bytes_per_thread": self.memory_bytes,
            "warnings": list(self.warnings),
            "files": [{"path": shard.name, "size": shard.nbytes} for shard in self.shards]
            + [{"path": name, "size": len(content)} for name, content in self.side_files.items()],
            "tensors": [self._describe_slot(shard, slot) for shard in self.shards for slot in shard.slots],
        }

    def _describe_slot(self, shard: Shard, slot: Slot) -> dict[str, Any]:
        tensor, spec = self.tensors[slot.spec.name], slot.spec
        merge = merge_of(tensor)
        inputs = () if merge is None else merge.inputs
        row = {
            "name": spec.name,
            "dtype": spec.dtype.label,
            "shape": list(spec.shape),
            "file": shard.name,
            "offset": slot.offset,
            "bytes": spec.nbytes,
            "action": "copy" if merge is None else merge.method.title(),
            "inputs": ["recipe" if isinstance(entry, Merge) else entry.kind for entry in inputs],
            "memory_bytes": memory_need(tensor),
        }
        return row | {"factors": tensor.form, "exact": tensor.form == "joined"} if isinstance(tensor, Factors) else row


def make_plan(recipe: Recipe, resolve: Resolve, memory_bytes: int | None = None, spent_bytes: int = 0) -> Plan:
    """Resolve and check everything that headers show.

    Raises NotFoundError for a source that is not there, FileError for a broken one, UnsupportedError for one
    that cannot be baked into weights, RecipeError where recipe and tensors do not fit, CapacityError for a
    tensor that needs more than `memory_bytes`, of which the process itself takes `spent_bytes`.
    """
    opened = Inputs(resolve)
    planner = plan_recipe(recipe, opened)
    tensors = planner.plan()
    donor = opened.source(recipe.sources()[0])
    check_head(tensors, donor, lambda: opened.artefact(donor.name).tensors)
    if isinstance(recipe.tokenizer, str):
        donor = with_tokenizer(donor, opened.source(recipe.tokenizer), map(opened.source, recipe.sources()))
    wish = Wish(recipe, tensors, planner.stored_base, donor, _metadata(recipe), (*opened.notes, *planner.notes))
    made = ARRANGE[recipe.output.kind](wish)
    if memory_bytes is not None:
        spent_bytes += made.write_bytes + shared_need(made.tensors.values())
        _check_memory(made.tensors, memory_bytes, spent_bytes)
    _check_shards(made.shards, recipe)
    digest = _digest(recipe, opened)
    side_files = made.side_files
    alignment = opened.within(speaker(recipe)).alignment
    if alignment is not None:
        side_files = with_vocabulary(side_files, alignment, donor.name)
    if recipe.chat_template is not None:
        side_files = with_template(side_files, recipe.chat_template, map(opened.source, recipe.sources()))
    return Plan(
        recipe,
        made.tensors,
        made.shards,
        side_files,
        made.notes,
        digest,
        made.open_sink,
        made.write_bytes,
        opened.marks(),
        made.is_foreseen,
    )


def _metadata(recipe: Recipe) -> dict[str, str]:
    text = recipe.without_sources()
    return {"format": "pt", "stockpot.recipe": text, "stockpot.recipe_sha256": sha256(text.encode()).hexdigest()}


def _digest(recipe: Recipe, opened: "Inputs") -> str:
    """sha256 over engine version, resolved recipe and input hashes; over names and sizes where none are kept."""
    inputs = [[name, opened.fingerprint(name)] for name in recipe.sources()]
    return sha256(json.dumps([ENGINE, recipe.canonical(), inputs], sort_keys=True).encode()).hexdigest()


def memory_need(tensor: Built, elements: int | None = None) -> int:
    """Bytes that one thread needs to build the tensor, beyond the mapped inputs."""
    if isinstance(tensor, Copy):
        return 0
    if isinstance(tensor, Factors):
        return tensor.own_bytes + (memory_need(tensor.merge) if tensor.form == "decomposed" else 0)
    elements = elements or chunk_elements(tensor)
    count = len(tensor.inputs)
    method_own = tensor.method.survey_bytes(count) + tensor.method.work_bytes(tensor.spec.shape, count)
    blocks = blocks_bytes(tensor) if tensor.method.surveys == "tensor" else 0
    # A method that streams may make as much again as it is given; one on matrices says what it makes.
    rows = count + 4 if "matrix" in _units(tensor) else 2 * count + 4
    own = 4 * elements * rows + method_own + blocks
    return own + sum(
        memory_need(entry, elements) if isinstance(entry, Merge) else entry.open_bytes for entry in tensor.read
    )


def chunk_elements(tensor: Merge) -> int:
    """How many elements the method sees at once: a cache-sized run, whole rows, or the whole matrix."""
    size = max(tensor.spec.size, 1)
    units = set(_units(tensor))
    if "matrix" in units:
        return size
    # A shape such as (5, 0) has rows of no elements.
    row = max(row_size(tensor.spec.shape), 1) if "row" in units else 1
    return min(size, max(CHUNK // row, 1) * row)


def _units(tensor: Merge) -> Iterator[Reads]:
    """What the method, its inputs and nested recipes see whole: all of them see the same chunks."""
    yield tensor.method.unit
    for entry in tensor.read:
        if isinstance(entry, Merge):
            yield from _units(entry)
        else:
            yield reads_of(entry)


def _check_shards(shards: tuple[Shard, ...], recipe: Recipe) -> None:
    if len(shards) > MOST_SHARDS:
        found, expected = f"{len(shards)} files", f"a size that gives at most {MOST_SHARDS}"
        where = "output.max_shard_bytes"
        raise RecipeError(f"{recipe.output.max_shard_bytes} is too small", where=where, found=found, expected=expected)


def _check_memory(tensors: Mapping[str, Built], memory_bytes: int, spent_bytes: int) -> None:
    for tensor in tensors.values():
        need = memory_need(tensor) + spent_bytes
        if need > memory_bytes:
            merge = merge_of(tensor)
            method = "copy" if merge is None else merge.method.title()
            raise CapacityError(
                f"{method} needs more memory than it is given",
                where=f"tensor '{tensor.spec.name}'",
                found=f"{need} bytes",
                expected=f"at most {memory_bytes}",
            )
