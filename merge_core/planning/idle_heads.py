"""Copies of a head that only some of several tied models store: no program reads them, and none is missed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from merge_core.planning.planned import AnyBase, Input
from merge_core.planning.rules import Rules
from merge_core.recipe import Recipe
from merge_core.sources import Source
from merge_core.tied_head import HEAD, ties_its_head

Base = Mapping[str, AnyBase]
Held = TypeVar("Held")
Model = tuple[str, object, Mapping[str, object]]
"""Label, source and tensors."""


def without_idle_heads(
    recipe: Recipe, base: Base | None, inputs: Sequence[Input], source: Callable[[str], Source]
) -> tuple[Base | None, list[Input], list[str]]:
    """Base and inputs without heads of their own, and a note of it, where every model is tied and some have none.

    What all have is merged, as any other tensor; what a rule takes or an adapter changes stays.
    """
    models = _models(recipe, base, inputs)
    holders = [label for label, _, tensors in models if HEAD in tensors]
    is_split = 0 < len(holders) < len(models)
    if not is_split or _is_asked_for(recipe, inputs) or not _are_tied(models, source):
        return base, list(inputs), []
    note = f"tensor '{HEAD}' is left out: all models are tied to their embeddings, and only {', '.join(holders)} has it"
    kept = [replace(entry, deltas=_without(entry.deltas)) if entry.complete else entry for entry in inputs]
    return None if base is None else _without(base), kept, [note]


def _models(recipe: Recipe, base: Base | None, inputs: Sequence[Input]) -> list[Model]:
    """Whatever is a full model."""
    entries = zip(recipe.ingredients, inputs, strict=True)
    models: list[Model] = [(entry.label, one.source, entry.deltas) for one, entry in entries if entry.complete]
    return models if base is None else [("the base", recipe.base, base), *models]


def _is_asked_for(recipe: Recipe, inputs: Sequence[Input]) -> bool:
    is_changed = any(HEAD in entry.deltas for entry in inputs if not entry.complete)
    return is_changed or Rules(recipe, [HEAD]).take(HEAD) is not None


def _are_tied(models: Sequence[Model], source: Callable[[str], Source]) -> bool:
    return all(isinstance(name, str) and ties_its_head(source(name)) for _, name, _ in models)


def _without(tensors: Mapping[str, Held]) -> dict[str, Held]:
    return {name: held for name, held in tensors.items() if name != HEAD}
