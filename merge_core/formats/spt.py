"""SPT's sparse weights: `….sparse_weight` and `….sparse_bias` in a state dict, their places in `param_req_*.pth`.

That file's `unstructured_indexes` are flat positions over all tensors of `unstructured_name_shapes` laid end to
end; the values of one tensor are in the order of its positions. Without it nothing says where the values go.
He et al., "Sensitivity-Aware Visual Parameter-Efficient Fine-Tuning", 2023, https://arxiv.org/abs/2303.08566
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from merge_core.deltas import Delta, Replacement
from merge_core.errors import FileError, UnsupportedError
from merge_core.formats.artefact import Artefact
from merge_core.formats.entries import Indices, check_range, sparse_sum, stored_indices
from merge_core.formats.pickle_objects import counts
from merge_core.formats.safetensors_header import MOST_ELEMENTS
from merge_core.formats.torch_file import TorchFile, open_torch_file
from merge_core.formats.weights_file import open_weights, tensor_names, weights_of
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor

NAME = "spt"
SPECIAL_CASE_OF = "checkpoint"
PLACES = "param_req_"
KEYS = {".sparse_weight": ".weight", ".sparse_bias": ".bias"}


def recognises(files: FileTree) -> bool:
    return any(name.endswith(tuple(KEYS)) for name in tensor_names(_weights(files)))


def read(files: FileTree) -> Artefact:
    """Raises UnsupportedError without the file of places, FileError where places and values do not fit."""
    file = weights_of(_weights(files))
    tensors = open_weights(files[file], file)
    sparse = {_weight_name(name): stored for name, stored in tensors.items() if name.endswith(tuple(KEYS))}
    whole = {name: stored for name, stored in tensors.items() if not name.endswith(tuple(KEYS))}
    places = _read_places(files, file)
    deltas: dict[str, Delta] = {name: Replacement(stored) for name, stored in whole.items() if name not in sparse}
    for name, values in sparse.items():
        where = f"{file}: tensor '{values.spec.name[:200]}'"
        if name not in places:
            expected = "the weight in unstructured_name_shapes"
            raise FileError(
                "nothing says where the values go", where=where, found=f"no '{name[:200]}'", expected=expected
            )
        indices, shape = places[name]
        deltas[name] = sparse_sum(indices, values, shape, where)
    facts = {"entries": sum(values.spec.size for values in sparse.values())}
    return Artefact(NAME, "delta", deltas, tensors, frozenset(whole), facts=facts)


def _weights(files: FileTree) -> FileTree:
    return {name: path for name, path in files.items() if not name.startswith(PLACES)}


def _weight_name(name: str) -> str:
    ending = next(key for key in KEYS if name.endswith(key))
    return name.removesuffix(ending) + KEYS[ending]


def _read_places(files: FileTree, file: str) -> Mapping[str, tuple[Indices, tuple[int, ...]]]:
    """Weight → its flat row-major indices, in order, and its shape."""
    found = sorted(name for name in files if name.startswith(PLACES) and name.endswith(".pth"))
    if len(found) != 1:
        message = "the values of sparse weights do not say where they go"
        expected = f"one {PLACES}*.pth, as the sensitivity step writes it, beside them"
        raise UnsupportedError(message, where=file, found=", ".join(found) or "no file of places", expected=expected)
    pickled = open_torch_file(files[found[0]], found[0])
    shapes = _shapes(pickled)
    flat = _indices(pickled, sum(prod(shape) for shape in shapes.values()))
    places: dict[str, tuple[Indices, tuple[int, ...]]] = {}
    start = 0
    for name, shape in shapes.items():
        first, end = np.searchsorted(flat, (start, start + prod(shape)))
        places[name] = flat[first:end] - start, shape
        start += prod(shape)
    return places


def _shapes(pickled: TorchFile) -> Mapping[str, tuple[int, ...]]:
    shapes: Any = pickled.content.get("unstructured_name_shapes") if isinstance(pickled.content, dict) else None
    if not isinstance(shapes, dict):
        raise FileError("no shapes of weights", where=pickled.file, expected="a dict with unstructured_name_shapes")
    where = f"{pickled.file}: unstructured_name_shapes"
    sizes = {str(name): counts(shape, "torch.Size", where) for name, shape in shapes.items()}
    if any(prod(length or 1 for length in shape) >= MOST_ELEMENTS for shape in sizes.values()):
        raise FileError("a shape is too large", where=where, expected="less than 2^60 elements")
    return sizes


def _indices(pickled: TorchFile, size: int) -> Indices:
    """The positions, sorted and unique."""
    where = f"{pickled.file}: unstructured_indexes"
    stored: StoredTensor = pickled.tensor("unstructured_indexes", pickled.content.get("unstructured_indexes"))
    indices = stored_indices(stored, where)
    check_range(indices, size, where)
    unique = np.unique(indices)
    if unique.size != indices.size:
        raise FileError("a place is there twice", where=where, found=f"{indices.size} indices", expected="unique ones")
    return unique
