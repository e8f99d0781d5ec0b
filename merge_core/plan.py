"""A recipe resolved against headers: every output tensor, byte offset, input, memory need and error.

No weight is read; only headers, configs and small integer tensors are.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from merge_core.alignment import align
from merge_core.deltas import Delta
from merge_core.errors import CapacityError, RecipeError, StockpotError, nearest
from merge_core.formats import Artefact, read
from merge_core.layout import Shard, index_json, lay_out
from merge_core.plan_tensors import Copy, Input, Merge, TensorPlan, TensorPlanner
from merge_core.recipe import Ingredient, Recipe
from merge_core.side_files import CARRIED, all_side_files
from merge_core.sources import Resolve, Source
from merge_core.tensors import row_size

ENGINE = "1"
"""Raised when the same recipe over the same inputs would give other bytes."""

READ = (".safetensors", *CARRIED)
"""Endings of the files that have a say in the output; a source's README has none."""

MOST_SHARDS = 800
"""Every shard is open while it is written, and 1024 open files is what a process often has."""

CHUNK = 1 << 16
"""Elements that an element-wise method sees at once: small enough for the second-level cache."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be built, to the byte. `digest` names the result: equal digests, equal files."""

    recipe: Recipe
    tensors: Mapping[str, TensorPlan]
    shards: tuple[Shard, ...]
    side_files: Mapping[str, bytes]
    warnings: tuple[str, ...]
    digest: str

    @property
    def total_bytes(self) -> int:
        return sum(shard.nbytes for shard in self.shards)

    @property
    def memory_bytes(self) -> int:
        """What one thread needs beyond the mapped inputs."""
        return max((memory_need(tensor) for tensor in self.tensors.values()), default=0)

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
            "tensors": [
                self._describe_slot(shard, slot.spec.name, slot.offset) for shard in self.shards for slot in shard.slots
            ],
        }

    def _describe_slot(self, shard: Shard, name: str, offset: int) -> dict[str, Any]:
        tensor = self.tensors[name]
        action = "copy" if isinstance(tensor, Copy) else tensor.method.title()
        kinds = (
            []
            if isinstance(tensor, Copy)
            else ["recipe" if isinstance(entry, Merge) else entry.kind for entry in tensor.inputs]
        )
        return {
            "name": name,
            "dtype": tensor.spec.dtype.label,
            "shape": list(tensor.spec.shape),
            "file": shard.name,
            "offset": offset,
            "bytes": tensor.spec.nbytes,
            "action": action,
            "inputs": kinds,
            "memory_bytes": memory_need(tensor),
        }


def make_plan(recipe: Recipe, resolve: Resolve, memory_bytes: int | None = None) -> Plan:
    """Resolve and check everything that headers show.

    Raises NotFoundError for a source that is not there, FileError for a broken one, UnsupportedError for one
    that cannot be baked into weights, RecipeError where recipe and tensors do not fit, CapacityError for a
    tensor that needs more than `memory_bytes`.
    """
    opened = _Inputs(resolve)
    planner = _plan_recipe(recipe, opened)
    tensors = planner.plan()
    _check_memory(tensors, memory_bytes)
    metadata = _metadata(recipe)
    shards = lay_out((tensor.spec for tensor in tensors.values()), recipe.output.max_shard_bytes, metadata)
    _check_shards(shards, recipe)
    warnings = (*opened.notes, *planner.notes)
    donor = opened.source(recipe.base if recipe.base is not None else recipe.sources()[0])
    side_files = all_side_files(recipe, donor, index_json(shards), warnings)
    return Plan(recipe, tensors, shards, side_files, warnings, _digest(recipe, opened))


def _metadata(recipe: Recipe) -> dict[str, str]:
    text = recipe.without_sources()
    return {"format": "pt", "stockpot.recipe": text, "stockpot.recipe_sha256": sha256(text.encode()).hexdigest()}


def _digest(recipe: Recipe, opened: "_Inputs") -> str:
    """sha256 over engine version, resolved recipe and input hashes; over names and sizes where none are kept."""
    inputs = [[name, opened.fingerprint(name)] for name in recipe.sources()]
    return sha256(json.dumps([ENGINE, recipe.canonical(), inputs], sort_keys=True).encode()).hexdigest()


class _Inputs:
    """Sources and artefacts, each opened once."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._sources: dict[str, Source] = {}
        self._artefacts: dict[str, Artefact] = {}
        self.notes: list[str] = []

    def source(self, name: str) -> Source:
        if name not in self._sources:
            self._sources[name] = self._resolve(name)
        return self._sources[name]

    def artefact(self, name: str) -> Artefact:
        if name not in self._artefacts:
            source = self.source(name)
            try:
                self._artefacts[name] = read(source.files)
            except StockpotError as error:
                raise error.within(f"source '{name}'") from error
        return self._artefacts[name]

    def fingerprint(self, name: str) -> list[list[str]]:
        source = self.source(name)
        if source.hashes is not None:
            known = dict(source.hashes)
        else:
            known = {path: str(file.stat().st_size) for path, file in source.files.items()}
        return sorted([path, mark] for path, mark in known.items() if path.endswith(READ))


def _plan_recipe(recipe: Recipe, opened: _Inputs) -> TensorPlanner:
    _check_count(recipe)
    base = None if recipe.base is None else _base(recipe.base, opened)
    inputs = [_open(ingredient, base, opened, recipe) for ingredient in recipe.ingredients]
    if base is None:
        _check_baseless(recipe, inputs)
    return TensorPlanner(recipe, None if base is None else base.tensors, inputs)


def _base(name: str, opened: _Inputs) -> Artefact:
    artefact = opened.artefact(name)
    if not artefact.complete:
        raise RecipeError(
            "the base is not a full checkpoint",
            where="base",
            found=f"{artefact.format} in '{name}'",
            expected="a checkpoint",
        )
    return artefact


def _open(ingredient: Ingredient, base: Artefact | None, opened: _Inputs, recipe: Recipe) -> Input:
    if isinstance(ingredient.source, Recipe):
        _check_takes_complete(recipe, "the nested recipe", "a full model")
        planner = _plan_recipe(ingredient.source, opened)
        merges = {name: planner.as_input(plan) for name, plan in planner.plan().items()}
        opened.notes.extend(planner.notes)
        return Input("the nested recipe", merges, complete=True)
    artefact = opened.artefact(ingredient.source)
    label = f"'{ingredient.source}'"
    if artefact.complete:
        _check_takes_complete(recipe, label, artefact.format)
    _note_other_base(artefact, label, recipe, opened)
    return _aligned(artefact, label, base)


def _check_takes_complete(recipe: Recipe, label: str, found: str) -> None:
    if not recipe.method.complete_inputs:
        hint = "a LoRA adapter; task_arithmetic takes full checkpoints too"
        raise RecipeError(f"{recipe.method.title()} merges adapters", where=label, found=found, expected=hint)


def _note_other_base(artefact: Artefact, label: str, recipe: Recipe, opened: _Inputs) -> None:
    declared = artefact.declared_base
    if declared and recipe.base is not None and _last_part(declared) != _last_part(recipe.base):
        opened.notes.append(f"{label} says that its base is '{declared}', and is put on '{recipe.base}'")


def _last_part(name: str) -> str:
    """`bert-tiny` of `team/bert-tiny@main` or `/models/Bert-Tiny/`."""
    return (name.rpartition("@")[0] or name).rstrip("/").rpartition("/")[2].casefold()


def _aligned(artefact: Artefact, label: str, base: Artefact | None) -> Input:
    if base is None:
        return Input(label, artefact.deltas, artefact.complete)
    names = align(artefact.deltas, base.tensors)
    deltas: dict[str, Delta | Merge] = {}
    for name, delta in artefact.deltas.items():
        if name not in names and not artefact.complete and name not in artefact.new_tensors:
            found, known = f"'{name}' of {label}", nearest(name, base.tensors)
            message = "an adapter tensor lands on no tensor of the base"
            raise RecipeError(message, where="ingredients", found=found, expected=known)
        target = names.get(name, name)
        if target in deltas:
            found = f"'{name}' and one more of {label}"
            message = "two tensors mean the same tensor of the base"
            raise RecipeError(message, where=f"tensor '{target}'", found=found, expected="one of them")
        deltas[target] = delta
    return Input(label, deltas, artefact.complete)


def _check_count(recipe: Recipe) -> None:
    count, method = len(recipe.ingredients), recipe.method
    most = method.most_inputs if method.most_inputs is not None else count
    if not method.fewest_inputs <= count <= most:
        expected = f"{method.fewest_inputs}" if most == method.fewest_inputs else f"{method.fewest_inputs} or more"
        raise RecipeError(
            f"{method.model_dump()['name']} takes another number of ingredients",
            where="ingredients",
            found=count,
            expected=expected,
        )
    if method.works_on(recipe.base is not None) == "weight" and recipe.scale != 1.0:
        expected = "1.0, or a method on deltas such as task_arithmetic"
        raise RecipeError(
            "scale applies to a merged delta, and this method averages weights",
            where="scale",
            found=recipe.scale,
            expected=expected,
        )


def _check_baseless(recipe: Recipe, inputs: list[Input]) -> None:
    if recipe.method.needs_base or recipe.method.works_on(False) == "delta":
        raise RecipeError("this method reads the base", where="base", found="nothing", expected="the base's name")
    adapter = next((entry.label for entry in inputs if not entry.complete), None)
    if adapter is not None:
        raise RecipeError(
            "an adapter says nothing without its base",
            where="base",
            found=f"nothing, for {adapter}",
            expected="the base's name",
        )


def memory_need(tensor: TensorPlan) -> int:
    """Bytes that one thread needs to build the tensor, beyond the mapped inputs."""
    if isinstance(tensor, Copy):
        return 0
    elements = chunk_elements(tensor)
    own = 4 * elements * (len(tensor.inputs) + 4) + tensor.method.survey_bytes(len(tensor.inputs))
    return own + sum(memory_need(entry) if isinstance(entry, Merge) else entry.open_bytes for entry in tensor.inputs)


def chunk_elements(tensor: Merge) -> int:
    """How many elements the method sees at once: a cache-sized run, whole rows, or the whole matrix."""
    size = max(tensor.spec.size, 1)
    if tensor.method.unit == "matrix":
        return size
    row = row_size(tensor.spec.shape) if tensor.method.unit == "row" else 1
    return min(size, max(CHUNK // max(row, 1), 1) * row)


def _check_shards(shards: tuple[Shard, ...], recipe: Recipe) -> None:
    if len(shards) > MOST_SHARDS:
        found, expected = f"{len(shards)} files", f"a size that gives at most {MOST_SHARDS}"
        where = "output.max_shard_bytes"
        raise RecipeError(f"{recipe.output.max_shard_bytes} is too small", where=where, found=found, expected=expected)


def _check_memory(tensors: Mapping[str, TensorPlan], memory_bytes: int | None) -> None:
    for name, tensor in tensors.items():
        need = memory_need(tensor)
        if memory_bytes is not None and need > memory_bytes:
            method = "copy" if isinstance(tensor, Copy) else tensor.method.title()
            raise CapacityError(
                f"{method} needs more memory than it is given",
                where=f"tensor '{name}'",
                found=f"{need} bytes",
                expected=f"at most {memory_bytes}",
            )
