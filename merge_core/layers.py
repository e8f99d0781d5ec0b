"""Which layer of a model a tensor belongs to, read off its name: no table of architectures is needed."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

STACKS = ("layers", "layer", "h", "blocks", "block", "resblocks")
"""What the list of a transformer's layers is called; other numbered modules are not layers."""

_LAYER = re.compile(rf"(?:^|(?<=\.))({'|'.join(STACKS)})\.(\d{{1,6}})(?=\.)")
_INPUT_SIDE = re.compile(r"emb|(^|\.)(wte|wpe)\.")


@dataclass(frozen=True, slots=True)
class Spot:
    """A layer: `stack` is the name of the list it stands in (`model.layers`), `index` its place there from 0."""

    stack: str
    index: int


def layer_of(name: str) -> Spot | None:
    """The layer of the tensor `name`; None for what stands outside the layers, such as embeddings and heads."""
    found = _LAYER.search(name)
    return None if found is None else Spot(name[: found.end(1)], int(found[2]))


def layers_of(names: Iterable[str]) -> dict[str, set[int]]:
    """The layers that the tensors `names` are of, by the name of their stack."""
    found: dict[str, set[int]] = {}
    for spot in filter(None, map(layer_of, names)):
        found.setdefault(spot.stack, set()).add(spot.index)
    return found


def moved(name: str, index: int) -> str:
    """The same tensor's name in layer `index`."""
    found = _LAYER.search(name)
    assert found is not None, "only a layer's tensor moves"
    return f"{name[: found.start(2)]}{index}{name[found.end(2) :]}"


def comes_before_layers(name: str) -> bool:
    """True for embeddings and the like; what else stands outside the layers (final norm, head) comes after them."""
    return _INPUT_SIDE.search(name) is not None


class Depths:
    """How far through its stack of layers each of a model's tensors is."""

    def __init__(self, names: Iterable[str]) -> None:
        self._ends: dict[str, tuple[int, int]] = {}
        for name in names:
            spot = layer_of(name)
            if spot is not None:
                first, last = self._ends.get(spot.stack, (spot.index, spot.index))
                self._ends[spot.stack] = min(first, spot.index), max(last, spot.index)

    @property
    def stacks(self) -> dict[str, int]:
        """Each stack's name, and its number of layers."""
        return {stack: last - first + 1 for stack, (first, last) in self._ends.items()}

    def share(self, name: str) -> float:
        """0 in the first layer and 1 in the last; an only layer is at 1, and what stands outside the layers at 0."""
        spot = layer_of(name)
        if spot is None:
            return 0.0
        first, last = self._ends[spot.stack]
        return 1.0 if first == last else (spot.index - first) / (last - first)
