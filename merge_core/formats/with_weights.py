"""Checkpoints that carry an adapter's tensors beside, or without, the weights that it adapts."""

from collections.abc import Collection, Mapping

from merge_core.deltas import Composite, Delta, Replacement
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.stored import StoredTensor

Tensors = Mapping[str, StoredTensor]


def artefact(
    name: str, added: Mapping[str, Delta], whole: Tensors, tensors: Tensors, facts: Mapping[str, object]
) -> Artefact:
    """The artefact of what is `added` to weights, the checkpoint's own `whole` ones where it has them.

    A whole tensor may be new to the base (a head), one that is adapted may not: it would be a model of its own.
    """
    deltas: dict[str, Delta] = {weight: Replacement(stored) for weight, stored in whole.items()}
    for weight, delta in added.items():
        deltas[weight] = on_top(weight, whole[weight], delta) if weight in whole else delta
    return Artefact(name, "delta", deltas, tensors, frozenset(whole.keys() - added.keys()), facts=facts)


def on_top(weight: str, own: StoredTensor, delta: Delta) -> Composite:
    """The checkpoint's own weight with the delta added; FileError where they do not fit."""
    if not own.spec.dtype.mergeable or own.spec.shape != delta.shape:
        where, found = f"{own.file}: tensor '{weight[:200]}'", f"{own.spec} and a delta {list(delta.shape)}"
        raise FileError("the weight and what adapts it do not fit", where=where, found=found, expected="equal shapes")
    return Composite(Replacement(own), delta)


def check_parts(tensors: Tensors, names: Collection[str], file: str, dimensions: int) -> None:
    """Raise FileError unless the named tensors are there, of numbers, and of so many dimensions."""
    for name in names:
        found = tensors.get(name)
        if found is None or not found.spec.dtype.mergeable or len(found.spec.shape) != dimensions:
            where, expected = f"{file}: tensor '{name[:200]}'", f"floats of {dimensions} dimension(s)"
            raise FileError(
                "a part of the adapter is missing or malformed",
                where=where,
                found=found and str(found.spec),
                expected=expected,
            )
