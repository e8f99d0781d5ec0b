"""Runs of layers from several models, put together and renumbered: which part each output tensor comes from."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from merge_core.deltas import Delta
from merge_core.errors import RecipeError
from merge_core.layers import Depths, comes_before_layers, layer_of, moved
from merge_core.planning.tensors import Input, Merge
from merge_core.recipe import Layers, Stack

Held = TypeVar("Held")

Wanted = Callable[[str], bool]
"""Which of a model's tensors are asked for; the rest need not fit anything."""


def every_tensor(name: str) -> bool:
    return True


def wanted_of(stack: Stack, position: int) -> Wanted:
    """The tensors that part `position` gives: its layers, and as the first or last part what stands around them."""
    (start, stop), last = stack.stack[position].layers, len(stack.stack) - 1

    def is_wanted(name: str) -> bool:
        spot = layer_of(name)
        if spot is None:
            return position == (0 if comes_before_layers(name) else last)
        return start <= spot.index < stop

    return is_wanted


def join(stack: Stack, inputs: Sequence[Input]) -> Input:
    """The parts' tensors as those of one model. Raises RecipeError where a part lacks one of its layers."""
    joined: dict[str, Delta | Merge] = {}
    first = 0
    for position, (part, entry) in enumerate(zip(stack.stack, inputs, strict=True)):
        _check_layers(part, entry, f"stack[{position}].layers")
        wanted, shift = wanted_of(stack, position), part.layers[0] - first
        joined |= shifted({name: delta for name, delta in entry.deltas.items() if wanted(name)}, shift)
        first += part.layers[1] - part.layers[0]
    label = " + ".join(dict.fromkeys(entry.label for entry in inputs))
    return Input(f"the stack of {label}", joined, complete=True)


def shifted(deltas: Mapping[str, Held], shift: int) -> dict[str, Held]:
    """The same tensors with layer k + `shift` as layer k; layers before `shift` are left out."""
    renamed: dict[str, Held] = {}
    for name, delta in deltas.items():
        spot = layer_of(name)
        if spot is None or shift == 0:
            renamed[name] = delta
        elif spot.index >= shift:
            renamed[moved(name, spot.index - shift)] = delta
    return renamed


def _check_layers(part: Layers, entry: Input, where: str) -> None:
    if not entry.complete:
        message, expected = "a stack is made of full models", "a checkpoint, or a recipe of the base and the adapter"
        raise RecipeError(message, where=where, found=f"an adapter, {entry.label}", expected=expected)
    stacks = Depths(entry.deltas).stacks
    if len(stacks) != 1:
        found = ", ".join(f"'{stack}'" for stack in stacks) or "none"
        message = f"{entry.label} has no one list of layers"
        raise RecipeError(message, where=where, found=found, expected="one, such as 'model.layers'")
    there = {spot.index for spot in map(layer_of, entry.deltas) if spot is not None}
    missing = next((index for index in range(*part.layers) if index not in there), None)
    if missing is not None:
        found, expected = f"layer {missing}", f"layers {min(there)} to {max(there)}"
        raise RecipeError(f"{entry.label} has no such layer", where=where, found=found, expected=expected)
