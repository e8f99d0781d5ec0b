"""Tensors that sparse fine-tunings replace whole: taken from the last that may, and no part of the sum."""

from collections.abc import Sequence
from dataclasses import replace
from glob import escape

from merge_core.deltas import Composite, Replacement
from merge_core.errors import RecipeError
from merge_core.methods.sparse_composition import SparseComposition
from merge_core.planning.tensors import Input
from merge_core.recipe import Recipe
from merge_core.recipe_rules import TensorRule


def taken_whole(recipe: Recipe, inputs: Sequence[Input]) -> tuple[Recipe, list[Input]]:
    """The recipe with a rule for each tensor that is taken whole, and the inputs without those that are not.

    Full checkpoints replace nothing: their tensors are deltas like any other. Raises RecipeError where an
    ingredient would change what one before it has replaced.
    """
    method = recipe.method
    if not isinstance(method, SparseComposition):
        return recipe, list(inputs)
    method.check(list(recipe.weights()), "all")
    may, takers = method.whole_from(recipe.weights()), _takers(inputs)
    rules = []
    for name, positions in sorted(takers.items()):
        winners = [position for position in positions if may[position]]
        if winners:
            _check_last(name, winners[-1], inputs)
            rules.append(TensorRule(match=escape(name), take=winners[-1]))
    kept = [
        _without(entry, {n for n in takers if position in takers[n] and not may[position]})
        for position, entry in enumerate(inputs)
    ]
    return recipe.model_copy(update={"tensors": (*recipe.tensors, *rules)}), kept


def _takers(inputs: Sequence[Input]) -> dict[str, list[int]]:
    """Name → the ingredients that replace the tensor, in order."""
    found: dict[str, list[int]] = {}
    for position, entry in enumerate(inputs):
        for name, delta in () if entry.complete else entry.deltas.items():
            if isinstance(delta, (Replacement, Composite)):
                found.setdefault(name, []).append(position)
    return found


def _check_last(name: str, winner: int, inputs: Sequence[Input]) -> None:
    for entry in inputs[winner + 1 :]:
        if name in entry.deltas and not isinstance(entry.deltas[name], (Replacement, Composite)):
            message = "an ingredient changes a tensor that one before it replaces whole"
            found, expected = (
                f"{entry.label} after {inputs[winner].label}",
                "the one that replaces last, or with_abs false",
            )
            raise RecipeError(message, where=f"tensor '{name}'", found=found, expected=expected)


def _without(entry: Input, names: set[str]) -> Input:
    return replace(entry, deltas={name: delta for name, delta in entry.deltas.items() if name not in names})
