"""Which way round a LoRA's weights are stored, where the adapter's own flag leaves it open.

PEFT looks at each module's class and overrules `fan_in_fan_out`: a Conv1D stores [in, out], a Linear [out, in]. The
flag that is saved is what somebody asked for, one for all modules. Shapes show the difference but for square weights.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from merge_core.conv1d import MODULES, is_conv1d
from merge_core.deltas import Composite, Decomposed, LowRank
from merge_core.errors import RecipeError
from merge_core.formats.safetensors_file import read_json
from merge_core.sources import Source

CONFIG = "config.json"
Held = TypeVar("Held")


def model_type(donor: Source) -> str | None:
    """The model type in the source's config; None where it says none."""
    if CONFIG not in donor.files:
        return None
    found = read_json(donor.files[CONFIG], CONFIG).get("model_type")
    return found if isinstance(found, str) else None


def oriented(
    deltas: Mapping[str, Held], shapes: Mapping[str, tuple[int, ...]], kind: str | None, label: str
) -> dict[str, Held]:
    """The deltas with each pair of factors the way that the module of the base (`shapes`) takes them.

    `kind` is the model's type. Raises RecipeError for square weights of which nothing says it.
    """
    flagged = _shown(deltas, shapes)
    return {name: _turned(name, delta, shapes.get(name), kind, flagged, label) for name, delta in deltas.items()}


def _shown(deltas: Mapping[str, Held], shapes: Mapping[str, tuple[int, ...]]) -> set[bool]:
    """What the flagged weights that are not square show: True for stored [in, out]."""
    found = {name: _factors(delta) for name, delta in deltas.items()}
    return {
        factors.shape == shapes[name]
        for name, factors in found.items()
        if factors is not None and factors.transposed and shapes.get(name) in (factors.shape, factors.shape[::-1])
        if factors.shape[0] != factors.shape[1]
    }


def _turned(
    name: str, delta: Held, shape: tuple[int, ...] | None, kind: str | None, shown: set[bool], label: str
) -> Held:
    factors = _factors(delta)
    if factors is None or shape is None:
        return delta
    if kind in MODULES:
        return _set(delta, factors, is_conv1d(name, kind))
    if not factors.transposed:
        return delta
    if shape[0] != shape[-1]:
        return _set(delta, factors, factors.shape == shape)
    if len(shown) != 1:
        found = f"fan_in_fan_out for a square weight in {label}, of a module that may be a Linear, where PEFT drops it"
        expected = f"a base whose {CONFIG} has the model_type, one of " + ", ".join(sorted(MODULES))
        message = "whether the weight is stored [in, out] cannot be told"
        raise RecipeError(message, where=f"tensor '{name}'", found=found, expected=expected)
    return _set(delta, factors, next(iter(shown)))


def _factors(delta: object) -> LowRank | None:
    """The linear layer's factors in a delta; embeddings have others."""
    inner = delta.added if isinstance(delta, Composite) else delta
    inner = inner.added if isinstance(inner, Decomposed) else inner
    if not isinstance(inner, LowRank) or len(inner.shape) != 2 or "lora_embedding" in inner.lora_a.spec.name:
        return None
    return inner


def _set(delta: Held, factors: LowRank, is_transposed: bool) -> Held:
    return delta if factors.transposed == is_transposed else _flipped(delta)


def _flipped(delta: Held) -> Held:
    if isinstance(delta, Composite):
        return replace(delta, added=_flipped(delta.added))
    if isinstance(delta, Decomposed):
        return replace(delta, added=_flipped(delta.added), axis=1 - delta.axis)
    if isinstance(delta, LowRank):
        return replace(delta, shape=delta.shape[::-1], transposed=not delta.transposed)
    return delta
