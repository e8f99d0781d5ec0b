"""A recipe's sources opened and brought under the names of its base: checkpoints, adapters, recipes, stacks."""

from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from merge_core.alignment import align
from merge_core.deltas import Delta, Gathered, Replacement, fitted
from merge_core.errors import RecipeError, StockpotError, nearest
from merge_core.formats import Artefact, read
from merge_core.formats.weights_file import PICKLES
from merge_core.orientation import model_type, oriented
from merge_core.permuted_rows import refuse_permuted
from merge_core.planning.idle_heads import without_idle_heads
from merge_core.planning.stack import Wanted, every_tensor, join, shifted, wanted_of
from merge_core.planning.statistics import Published, published
from merge_core.planning.tensors import AnyBase, Input, Merge, TensorPlanner
from merge_core.planning.whole import taken_whole
from merge_core.recipe import Ingredient, Recipe, Stack
from merge_core.recipe_vocabulary import Vocabulary
from merge_core.side_files import CARRIED
from merge_core.sources import Resolve, Source
from merge_core.stored import StoredTensor
from merge_core.vocabulary import Alignment, Opened, align_vocabularies

READ = (".safetensors", *PICKLES, *CARRIED)
"""Endings of the files that have a say in the output; a source's README has none."""

Held = TypeVar("Held")
Base = Mapping[str, AnyBase]


class Inputs:
    """Sources and artefacts, each opened once."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._sources: dict[str, Source] = {}
        self._artefacts: dict[str, Artefact] = {}
        self._aligned: dict[str, Artefact] = {}
        self._within: dict[int, tuple[Recipe, Inputs]] = {}
        self.notes: list[str] = []
        self.alignment: Alignment | None = None
        """How tokens are numbered, within a recipe that says so."""

    def source(self, name: str) -> Source:
        if name not in self._sources:
            self._sources[name] = self._resolve(name)
        return self._sources[name]

    def marks(self) -> dict[Path, str]:
        """What tells the content of each file of the opened sources, where somebody knows."""
        return {
            file: known[path]
            for source in self._sources.values()
            for known in [source.hashes or source.marks]
            for path, file in source.files.items()
            if path in known
        }

    def artefact(self, name: str) -> Artefact:
        if name not in self._artefacts:
            source = self.source(name)
            try:
                self._artefacts[name] = read(source.files)
            except StockpotError as error:
                raise error.within(f"source '{name}'") from error
        return self._artefacts[name]

    def model(self, name: str) -> Artefact:
        """The artefact with its tokens numbered as in the result."""
        if self.alignment is None:
            return self.artefact(name)
        if name not in self._aligned:
            self._aligned[name] = self.alignment.artefact(name, self.artefact(name))
        return self._aligned[name]

    def part(self, source: str | Recipe | Stack) -> "Inputs":
        """The same sources, for one part of a stack: only its own models fill up each other's gaps."""
        if self.alignment is None:
            return self
        inside = copy(self)
        inside.alignment, inside._aligned = self.alignment.part(source), {}
        return inside

    def within(self, recipe: Recipe) -> "Inputs":
        """The same sources, for a recipe that says how tokens are numbered; the outermost that does so is heard."""
        if self.alignment is not None or not isinstance(recipe.tokenizer, Vocabulary):
            return self
        if id(recipe) not in self._within:
            inside = copy(self)
            inside.alignment, inside._aligned = align_vocabularies(recipe, Opened(self.source, self.artefact)), {}
            self._within[id(recipe)] = recipe, inside
        return self._within[id(recipe)][1]

    def fingerprint(self, name: str) -> list[list[str]]:
        source = self.source(name)
        if source.hashes is not None:
            known = dict(source.hashes)
        else:
            known = {path: str(file.stat().st_size) for path, file in source.files.items()}
        return sorted([path, mark] for path, mark in known.items() if path.endswith(READ))


def plan_recipe(recipe: Recipe, opened: Inputs, wanted: Wanted = every_tensor) -> TensorPlanner:
    """The planner of a recipe's `wanted` tensors, its inputs opened and checked against each other."""
    _check_count(recipe)
    opened = opened.within(recipe)
    base = None if recipe.base is None else _base(recipe.base, opened)
    inputs = [_ingredient(ingredient, base, opened, recipe, wanted) for ingredient in recipe.ingredients]
    if base is None:
        _check_baseless(recipe, inputs)
    base, inputs, notes = without_idle_heads(recipe, base, inputs, opened.source)
    opened.notes.extend(notes)
    recipe, inputs = taken_whole(recipe, inputs)
    return TensorPlanner(recipe, None if base is None else _chosen(base, wanted), inputs)


def _chosen(tensors: Mapping[str, Held], wanted: Wanted) -> Mapping[str, Held]:
    return tensors if wanted is every_tensor else {name: held for name, held in tensors.items() if wanted(name)}


def _base(source: str | Recipe | Stack, opened: Inputs) -> Base:
    if isinstance(source, str):
        _check_complete(source, opened.artefact(source))
    return {name: _as_base(delta) for name, delta in _open_model(source, opened, every_tensor).deltas.items()}


def _as_base(delta: Delta | Merge) -> AnyBase:
    if isinstance(delta, Replacement):
        return delta.stored
    assert isinstance(delta, (Gathered, Merge)), "a full model has whole tensors"
    return delta


def _check_complete(name: str, artefact: Artefact) -> None:
    if not artefact.complete:
        raise RecipeError(
            "the base is not a full checkpoint",
            where="base",
            found=f"{artefact.format} in '{name}'",
            expected="a checkpoint",
        )


def _ingredient(ingredient: Ingredient, base: Base | None, opened: Inputs, recipe: Recipe, wanted: Wanted) -> Input:
    """One ingredient under the base's names and the recipe's numbers of layers, as far as it is wanted."""
    entry = _open(ingredient, base, opened, recipe, wanted)
    deltas = shifted(entry.deltas, ingredient.layer_shift)
    statistics = shifted(_published(ingredient, base, opened, recipe), ingredient.layer_shift)
    return replace(entry, deltas=_chosen(deltas, wanted), statistics=_chosen(statistics, wanted))


def _published(ingredient: Ingredient, base: Base | None, opened: Inputs, recipe: Recipe) -> Published:
    """The statistics of an ingredient that the method reads, under the base's names."""
    if recipe.method.statistic is None:
        return {}
    files = opened.source(ingredient.source).files if isinstance(ingredient.source, str) else {}
    label = f"'{ingredient.source}'" if isinstance(ingredient.source, str) else "a nested recipe"
    return published(recipe.method, files, label, base)


def _open(ingredient: Ingredient, base: Base | None, opened: Inputs, recipe: Recipe, wanted: Wanted) -> Input:
    source = ingredient.source
    if not isinstance(source, str):
        _check_takes_complete(recipe, "the nested recipe", "a full model")
        is_shifted = ingredient.layer_shift != 0
        return _open_model(source, opened, every_tensor if is_shifted else wanted)
    artefact = opened.model(source)
    if artefact.complete:
        _check_takes_complete(recipe, f"'{source}'", artefact.format)
    elif recipe.base is None and recipe.output.kind == "ternary":
        return _own_tensors(artefact, f"'{source}'")
    _note_other_base(artefact, f"'{source}'", recipe, opened)
    entry = _aligned(artefact, f"'{source}'", base)
    if base is not None and not artefact.complete:
        shapes = {name: held.spec.shape for name, held in base.items()}
        kind = model_type(opened.source(recipe.sources()[0]))
        entry = replace(entry, deltas=oriented(entry.deltas, shapes, kind, entry.label))
    if opened.alignment is not None and not artefact.complete:
        opened.alignment.check_adapter(entry.label, entry.deltas, base or {})
    return entry


def _own_tensors(artefact: Artefact, label: str) -> Input:
    """What an adapter is made of, each tensor for itself, under the names that its file has."""
    deltas = {stored.spec.name: Replacement(stored) for stored in artefact.tensors.values()}
    return Input(label, deltas, complete=True)


def _open_model(source: str | Recipe | Stack, opened: Inputs, wanted: Wanted) -> Input:
    """A source that is a model by itself, and needs no base beside it."""
    if isinstance(source, Stack):
        parts = enumerate(source.stack)
        wanted_parts = [_open_model(part.source, opened.part(part.source), wanted_of(source, at)) for at, part in parts]
        return join(source, wanted_parts)
    if isinstance(source, str):
        artefact = opened.model(source)
        return Input(f"'{source}'", artefact.deltas, artefact.complete)
    planner = plan_recipe(source, opened, wanted)
    merges = {name: planner.as_input(plan) for name, plan in planner.plan().items()}
    opened.notes.extend(planner.notes)
    return Input("the nested recipe", merges, complete=True)


def _check_takes_complete(recipe: Recipe, label: str, found: str) -> None:
    if not recipe.method.complete_inputs:
        hint = "a LoRA adapter; task_arithmetic takes full checkpoints too"
        raise RecipeError(f"{recipe.method.title()} merges adapters", where=label, found=found, expected=hint)


def _note_other_base(artefact: Artefact, label: str, recipe: Recipe, opened: Inputs) -> None:
    declared = artefact.declared_base
    base = recipe.base_name
    if declared and base is not None and _last_part(declared) != _last_part(base):
        opened.notes.append(f"{label} says that its base is '{declared}', and is put on '{base}'")


def _last_part(name: str) -> str:
    """`bert-tiny` of `team/bert-tiny@main` or `/models/Bert-Tiny/`."""
    return (name.rpartition("@")[0] or name).rstrip("/").rpartition("/")[2].casefold()


def _aligned(artefact: Artefact, label: str, base: Base | None) -> Input:
    if base is None:
        return Input(label, artefact.deltas, artefact.complete)
    artefact = _settled(artefact, label, base)
    names = align(artefact.deltas, base)
    deltas: dict[str, Delta | Merge] = {}
    for name, delta in artefact.deltas.items():
        if name not in names and name in artefact.optional:
            continue
        if name not in names and not artefact.complete and name not in artefact.new_tensors:
            found, known = f"'{name}' of {label}", nearest(name, base)
            message = "an adapter tensor lands on no tensor of the base"
            raise RecipeError(message, where="ingredients", found=found, expected=known)
        target = names.get(name, name)
        if target in deltas:
            found = f"'{name}' and one more of {label}"
            message = "two tensors mean the same tensor of the base"
            raise RecipeError(message, where=f"tensor '{target}'", found=found, expected="one of them")
        deltas[target] = _fitted(delta, base.get(target))
    return Input(label, deltas, artefact.complete)


def _settled(artefact: Artefact, label: str, base: Base) -> Artefact:
    """The artefact with what only the base shows of it."""
    stored = {name: held for name, held in base.items() if isinstance(held, StoredTensor)}
    try:
        if artefact.complete:
            refuse_permuted(artefact.tensors, stored)
        return artefact if artefact.settle is None else artefact.settle(stored)
    except StockpotError as error:
        raise error.within(label) from error


def _fitted(delta: Delta, held: AnyBase | None) -> Delta:
    """The delta for the base's tensor; one that does not fit stays as it is, and is refused with both shapes."""
    return delta if held is None else fitted(delta, held.spec.shape) or delta


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
