"""Whether what was published belongs to a base, as far as names and shapes say it."""

from collections.abc import Mapping
from dataclasses import dataclass

from merge_core.alignment import align
from merge_core.deltas import Delta, fitted
from merge_core.errors import RecipeError
from merge_core.formats import Artefact
from merge_core.orientation import oriented

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Fit:
    """The deltas under the base's names, the names that are `new` to the base, and what speaks against this base."""

    deltas: Mapping[str, Delta]
    new: tuple[str, ...]
    misfits: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Every tensor that must lands on one of the base's, of its shape."""
        return not self.misfits


def fit(artefact: Artefact, shapes: Shapes, model_type: str | None = None) -> Fit:
    """The artefact, settled where it has to be, held against the shapes of a base's tensors by name.

    `model_type` is that of the base's config. A full checkpoint may have tensors that its base lacks.
    """
    names = align(artefact.deltas, shapes)
    deltas: dict[str, Delta] = {}
    new, misfits = [], []
    for name, delta in artefact.deltas.items():
        target = names.get(name)
        if target is None:
            is_free = artefact.complete or name in artefact.new_tensors
            if is_free:
                new.append(name)
            elif name not in artefact.optional:
                misfits.append(f"{name[:200]!r} is no tensor of it")
        elif target in deltas:
            misfits.append(f"{name[:200]!r} and one more mean {target[:200]!r}")
        else:
            deltas[target] = fitted(delta, shapes[target]) or delta
    deltas = _turned(deltas, shapes, model_type)
    return Fit(deltas, tuple(new), (*misfits, *_other_shapes(deltas, shapes)))


def _turned(deltas: dict[str, Delta], shapes: Shapes, model_type: str | None) -> dict[str, Delta]:
    """The way round that the base stores its matrices; square ones of which nothing says it fit either way."""
    matrices = {name: shapes[name] for name in deltas if len(shapes[name]) == 2}
    try:
        return oriented(deltas, matrices, model_type, "the adapter")
    except RecipeError:
        return deltas


def _other_shapes(deltas: Mapping[str, Delta], shapes: Shapes) -> list[str]:
    return [
        f"{name[:200]!r} is {list(delta.shape)}, and {list(shapes[name])} there"
        for name, delta in deltas.items()
        if delta.shape != shapes[name]
    ]
