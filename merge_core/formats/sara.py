"""SaRA's files: a pickle of {'threshold': t, 0: values, 1: values, …} by the position of each parameter.

The values are those of the entries that were below the threshold in the base, in row-major order; they replace
them. A safetensors base does not keep the parameters' order, so positions are told by `parameters.json` beside the
pickle (a list of names), by names that are the positions, or by how many entries each tensor has below the
threshold where that leaves no doubt. Hu et al., "SaRA", 2024, https://arxiv.org/abs/2409.06633
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import Any

from merge_core.deltas import Delta
from merge_core.deltas.masked import Masked
from merge_core.deltas.unsettled import Unsettled
from merge_core.errors import FileError, StockpotError, UnsupportedError
from merge_core.formats.artefact import Artefact
from merge_core.formats.entries import Base, check_values
from merge_core.formats.torch_file import open_torch_file
from merge_core.formats.weights_file import LEADERS, lone_weights
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "sara"
SPECIAL_CASE_OF = "checkpoint"
ORDER = "parameters.json"
MOST_ORDER_BYTES = 10_000_000

Vectors = Mapping[int, StoredTensor]


def recognises(files: FileTree) -> bool:
    file = lone_weights(files)
    if file is None or file in LEADERS or file.endswith(".safetensors"):
        return False
    try:
        content = open_torch_file(files[file], file).content
    except StockpotError:
        return False
    return isinstance(content, dict) and isinstance(content.get("threshold"), float) and 0 in content


def read(files: FileTree) -> Artefact:
    """Raises FileError for values that are none, and for an order that does not name them all."""
    file = lone_weights(files)
    assert file is not None, "a reader reads what it recognises"
    pickled = open_torch_file(files[file], file)
    content: dict[Any, Any] = dict(pickled.content)
    threshold = content.pop("threshold")
    if not isfinite(threshold) or threshold <= 0:
        raise FileError("the threshold is no size", where=file, found=threshold, expected="a number above 0")
    if not all(type(position) is int and position >= 0 for position in content):
        raise FileError("a key is no position", where=file, expected="positions of parameters from 0")
    vectors = {position: pickled.tensor(str(position), value) for position, value in content.items()}
    for position, vector in vectors.items():
        check_values(vector, f"{file}: parameter {position}")
    pending: dict[str, Delta] = {str(at): Unsettled("masked", vector.spec.nbytes) for at, vector in vectors.items()}
    tensors = {str(position): vector for position, vector in vectors.items()}
    artefact = Artefact(NAME, "delta", pending, tensors, facts={"threshold": threshold})
    order = _order(files, vectors)
    return replace(artefact, settle=partial(_settled, artefact, vectors, threshold, order, file))


def _order(files: FileTree, vectors: Vectors) -> list[str] | None:
    """The parameters' names in their order, where the files tell it."""
    if ORDER not in files:
        return None
    try:
        if files[ORDER].stat().st_size > MOST_ORDER_BYTES:
            raise ValueError("too large")
        names = json.loads(files[ORDER].read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileError(f"not valid JSON: {error}"[:200], where=ORDER) from error
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    if not is_list or len(names) <= max(vectors):
        raise FileError("the order does not name every parameter", where=ORDER, expected=f"{max(vectors) + 1} names")
    return list(names)


def _settled(
    artefact: Artefact, vectors: Vectors, threshold: float, order: list[str] | None, file: str, base: Base
) -> Artefact:
    places = _named(vectors, order, base) or _counted(vectors, threshold, base, file)
    deltas: dict[str, Delta] = {}
    for position, name in places.items():
        delta = Masked.make(base[name], vectors[position], threshold)
        if delta.kept != vectors[position].spec.size:
            where, found = f"{file}: parameter {position} ('{name[:200]}')", f"{vectors[position].spec.size} values"
            expected = f"{delta.kept}, as the base has entries below {threshold}"
            raise FileError("the values are of another base", where=where, found=found, expected=expected)
        deltas[name] = delta
    return replace(artefact, deltas=deltas, settle=None)


def _named(vectors: Vectors, order: list[str] | None, base: Base) -> dict[int, str] | None:
    """Position → name by the order given, or where the base's names are the positions."""
    names = {position: order[position] if order is not None else str(position) for position in vectors}
    missing = [name for name in names.values() if name not in base]
    if order is not None and missing:
        raise FileError("the order names a tensor that the base lacks", where=ORDER, found=repr(missing[0][:200]))
    return None if missing else names


def _counted(vectors: Vectors, threshold: float, base: Base, file: str) -> dict[int, str]:
    """Position → name by how many entries are below the threshold; parameters without any are left as they are."""
    counts = {
        name: Masked.make(stored, stored, threshold).kept
        for name, stored in base.items()
        if stored.spec.dtype.mergeable
    }
    sharing = Counter(counts.values())
    by_count = {count: name for name, count in counts.items()}
    places: dict[int, str] = {}
    for position, vector in vectors.items():
        if vector.spec.size and sharing[vector.spec.size] != 1:
            where, found = f"{file}: parameter {position}", f"{sharing[vector.spec.size]} tensors of the base"
            message = "the file does not say which weight it changes"
            expected = f"{ORDER}: a list of the names of the model's parameters in their order"
            raise UnsupportedError(message, where=where, found=found, expected=expected)
        if vector.spec.size:
            places[position] = by_count[vector.spec.size]
    return places
