"""Filters that name a layer, for tensors that stand in another layer than the one whose number they are asked by."""

import re
from collections.abc import Iterator
from dataclasses import replace

from merge_core.errors import UnsupportedError
from merge_core.layers import layer_of, moved
from merge_core.mergekit.settings import Choice, Choices

_NUMBERED = re.compile(r"(^|\.)\d")


def renumbered(choices: Choices, shift: int, where: str) -> Choices:
    """The choices with the layer that a filter names moved by `shift`; those that no layer can meet are left out.

    Raises UnsupportedError for a filter whose number need not be a whole layer's, such as `layers.1` and `3.mlp`.
    """
    return tuple(_renumbered(choices, shift, where)) if shift else choices


def _renumbered(choices: Choices, shift: int, where: str) -> Iterator[Choice]:
    for choice in choices:
        spot = None if choice.substring is None else layer_of(choice.substring)
        if choice.substring is not None and spot is not None:
            if spot.index + shift >= 0:
                yield replace(choice, substring=moved(choice.substring, spot.index + shift))
        elif choice.substring is not None and _NUMBERED.search(choice.substring):
            message = "a filter with a part of a name that may be a layer's is not supported in numbered slices"
            raise UnsupportedError(message, where=where, found=choice.substring, expected="such as 'layers.3.'")
        else:
            yield choice
