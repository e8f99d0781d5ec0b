"""Patches: `patch.safetensors` says which entries of which weights are other than the base's, and what they are.

The metadata's `stockpot.patch` is the JSON {"version": 1, "shapes": {NAME: [lengths…]}}. A weight NAME in
`shapes` has `NAME.indices`, int32 or int64 [n], flat, row-major, sorted and unique; and `NAME.values` [n], the
weights there. Every other tensor of the file is a weight by its own name, and replaces the base's whole.
"""

import json
from collections.abc import Mapping
from math import prod

import numpy as np

from merge_core.deltas import Delta, Replacement, Sparse
from merge_core.errors import FileError
from merge_core.formats.artefact import Artefact
from merge_core.formats.safetensors_file import open_tensors, read_header
from merge_core.formats.safetensors_header import MOST_DIMENSIONS, MOST_ELEMENTS, without_duplicates
from merge_core.sources import FileTree
from merge_core.stored import StoredTensor
from merge_core.tensors import DType

NAME = "patch"
FILE = "patch.safetensors"
METADATA = "stockpot.patch"
VERSION = 1
INDICES = ".indices"
VALUES = ".values"

CHECKED = 1 << 20
"""Indices checked at a time, so that a check keeps little in memory."""

Shape = tuple[int, ...]


def patch_metadata(shapes: Mapping[str, Shape]) -> str:
    """What the metadata says of a patch whose weights have these shapes."""
    content = {"version": VERSION, "shapes": {name: list(shapes[name]) for name in sorted(shapes)}}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def recognises(files: FileTree) -> bool:
    return FILE in files


def read(files: FileTree) -> Artefact:
    """The patch's deltas by weight name. Raises FileError for indices out of order or range, and missing parts."""
    shapes = read_shapes(read_header(files[FILE], FILE).metadata)
    tensors = open_tensors(files[FILE], FILE)
    parts = {name + ending for name in shapes for ending in (INDICES, VALUES)}
    whole = {name: stored for name, stored in tensors.items() if name not in parts}
    for name in sorted(shapes.keys() & whole.keys()):
        raise FileError("a weight is there twice", where=_where(name), found="whole and in entries", expected="one")
    deltas: dict[str, Delta] = {name: Replacement(stored) for name, stored in whole.items()}
    deltas |= {name: _sparse(name, shape, tensors) for name, shape in shapes.items()}
    return Artefact(NAME, "delta", deltas, tensors, frozenset(whole), facts={"entries": _entries(deltas)})


def read_shapes(metadata: Mapping[str, str]) -> dict[str, Shape]:
    """The shapes of the weights that a patch has entries of. Raises FileError for metadata of no patch."""
    try:
        content = json.loads(metadata.get(METADATA, "null"), object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError) as error:
        raise _no_patch(f"no JSON: {error}"[:200]) from error
    if not isinstance(content, dict) or set(content) != {"version", "shapes"}:
        raise _no_patch(type(content).__name__)
    if content["version"] != VERSION or not isinstance(content["shapes"], dict):
        raise _no_patch(f"version {str(content['version'])[:20]}")
    return {name: read_shape(_where(name), claim) for name, claim in content["shapes"].items()}


def _no_patch(found: str) -> FileError:
    where, expected = f"{FILE}: metadata '{METADATA}'", f'an object with "version": {VERSION} and "shapes"'
    return FileError("the patch does not say what it is of", where=where, found=found, expected=expected)


def read_shape(where: str, claim: object) -> Shape:
    """The shape that `claim` is; FileError that says `where` for anything else."""
    if not isinstance(claim, list) or len(claim) > MOST_DIMENSIONS or not all(_is_length(one) for one in claim):
        expected = f"at most {MOST_DIMENSIONS} integers >= 0"
        raise FileError("the shape is malformed", where=where, found=str(claim)[:80], expected=expected)
    if prod(length or 1 for length in claim) >= MOST_ELEMENTS:
        expected = "less than 2^60 elements"
        raise FileError("the shape is too large", where=where, found=str(claim)[:80], expected=expected)
    return tuple(claim)


def _is_length(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_ELEMENTS


def _sparse(name: str, shape: Shape, tensors: Mapping[str, StoredTensor]) -> Sparse:
    indices, values = tensors.get(name + INDICES), tensors.get(name + VALUES)
    if indices is None or values is None:
        missing = INDICES if indices is None else VALUES
        raise FileError("a part is missing", where=_where(name), found="nothing", expected=f"'{name[:200]}{missing}'")
    is_indices = indices.spec.dtype in (DType.I32, DType.I64) and values.spec.dtype.mergeable
    if not is_indices or len(indices.spec.shape) != 1 or indices.spec.shape != values.spec.shape:
        found, expected = f"{indices.spec} and {values.spec}", "int32 or int64 [n] and floats [n]"
        raise FileError("indices and values do not fit", where=_where(name), found=found, expected=expected)
    _check_order(name, indices, prod(shape))
    return Sparse(indices, values, shape)


def _check_order(name: str, indices: StoredTensor, size: int) -> None:
    """Raise FileError unless every index is larger than the one before and below `size`."""
    stored, before = indices.storage(), -1
    for start in range(0, stored.size, CHECKED):
        run = np.concatenate([[before], stored[start : start + CHECKED].astype(np.int64)])
        wrong = np.flatnonzero((run[1:] <= run[:-1]) | (run[1:] >= size))
        if wrong.size:
            place = int(wrong[0])
            where, found = f"{_where(name)} index {start + place}", f"{run[place + 1]} after {run[place]}"
            expected = f"sorted and unique, from 0 to {size - 1}"
            raise FileError("an index is out of order or range", where=where, found=found, expected=expected)
        before = int(run[-1])


def _entries(deltas: Mapping[str, Delta]) -> int:
    return sum(delta.values.spec.size for delta in deltas.values() if isinstance(delta, Sparse))


def _where(name: str) -> str:
    return f"{FILE}: weight '{name[:200]}'"
